//! The request fields that are known, with the source of each name.
//!
//! A `*` at the end stands for any ending. Whole names count before beginnings. Names of
//! one row are in order.

use super::Class;

/// The class of fields, who defines or sends them, and their names in lower case.
pub(super) type Listed = (Class, &'static str, &'static [&'static str]);

/// A row for each source.
#[rustfmt::skip]
pub(super) const LISTED: &[Listed] = &[
    (Class::Connection, "RFC 9110 section 7.6.1, RFC 9112", &[
        "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    ]),
    (Class::Connection, "RFC 7540 section 3.2.1", &["http2-settings"]),
    (Class::Connection, "Spin: what the host tells the component", &["spin-*"]),
    (Class::Content, "RFC 9110 sections 8 and 10.1.1", &["content-*", "expect"]),
    (Class::Content, "RFC 3230, RFC 9530", &["digest", "repr-digest", "want-digest"]),
    (Class::Condition, "RFC 9110 sections 13 and 14", &["if-*", "range", "request-range"]),
    (Class::Directive, "RFC 9111 sections 5.2 and 5.4", &["cache-control", "pragma"]),
    (Class::Negotiation, "RFC 9110 section 12.5", &["accept", "accept-encoding"]),
    (Class::Scheme, "proxies: the scheme that the visitor used", &[
        "cloudfront-forwarded-proto", "front-end-https", "x-arr-ssl", "x-forwarded-proto", "x-forwarded-protocol",
        "x-forwarded-scheme", "x-forwarded-ssl", "x-scheme", "x-url-scheme",
    ]),
    (Class::Credential, "RFC 9110 section 11, RFC 6265, RFC 2965", &[
        "authorization", "cookie", "cookie2", "proxy-authorization",
    ]),
    (Class::Host, "RFC 9110 section 7.2", &["host"]),
    (Class::MethodOverride, "OData, Google, IBM: a method in a field", &[
        "x-http-method", "x-http-method-override", "x-method-override",
    ]),
    (Class::Rewriting, "proxies and frameworks: the host or the target in a field", &[
        "base-url", "destination", "orig-path-info", "request-uri", "x-forwarded-host", "x-forwarded-path",
        "x-forwarded-prefix", "x-forwarded-server", "x-forwarded-uri", "x-host", "x-original-host", "x-original-uri",
        "x-override-url", "x-proxy-url", "x-wap-host",
    ]),
    (Class::Rewriting, "IIS: URL Rewrite and ISAPI_Rewrite", &[
        "iis-wasurlrewritten", "unencoded-url", "x-original-url", "x-rewrite-url",
    ]),

    // Negotiation by other means, and the agent.
    (Class::Latent, "RFC 9110 section 12.5", &["accept-charset", "accept-language"]),
    (Class::Latent, "RFC 9110 section 10.1", &["from", "referer", "user-agent"]),
    (Class::Latent, "Client Hints, RFC 8942 and before", &[
        "device-memory", "downlink", "dpr", "ect", "rtt", "save-data", "sec-*", "viewport-width", "width",
    ]),
    (Class::Latent, "RFC 9218, RFC 8470, RFC 7838, RFC 9842", &[
        "alt-used", "available-dictionary", "dictionary-id", "early-data", "priority",
    ]),
    (Class::Latent, "browsers", &[
        "attribution-reporting-eligible", "attribution-reporting-support", "dnt", "origin-agent-cluster", "ping-from",
        "ping-to", "purpose", "upgrade-insecure-requests", "x-client-data", "x-moz", "x-purpose",
    ]),
    (Class::Latent, "WAP", &["x-wap-profile"]),

    // Players.
    (Class::Latent, "CTA-5004: Common Media Client Data", &["cmcd-*"]),
    (Class::Latent, "Apple AVFoundation", &["x-playback-session-id"]),
    (Class::Latent, "Roku", &["x-roku-reserved-*"]),

    // Addresses and hops.
    (Class::Latent, "RFC 7239, RFC 9110 section 7.6, RFC 8586", &["cdn-loop", "forwarded", "max-forwards", "via"]),
    (Class::Latent, "proxies: addresses of visitors and hops", &[
        "client-ip", "true-client-ip", "x-client-ip", "x-client-port", "x-cluster-client-ip", "x-forwarded-by",
        "x-forwarded-for", "x-forwarded-port", "x-original-forwarded-for", "x-proxyuser-ip", "x-real-ip",
        "x-real-port", "x-remote-addr", "x-remote-ip", "x-remote-port",
    ]),
    (Class::Latent, "Blue Coat and other proxies of companies", &["x-bluecoat-via", "x-imforwards"]),

    // Content delivery networks, load balancers and platforms.
    (Class::Latent, "Cloudflare", &[
        "cf-bot-score", "cf-connecting-ip*", "cf-connecting-o2o", "cf-ew-via", "cf-ipcity", "cf-ipcountry",
        "cf-iplatitude", "cf-iplongitude", "cf-ja3-hash", "cf-ja4", "cf-metro-code", "cf-postal-code",
        "cf-pseudo-ipv4", "cf-ray", "cf-request-id", "cf-threat-score", "cf-visitor", "cf-warp-tag-id", "cf-worker",
    ]),
    // Few values, and an origin is told them because its pages differ by them.
    (Class::Unknown, "Amazon CloudFront: country and region", &[
        "cloudfront-viewer-country", "cloudfront-viewer-country-name", "cloudfront-viewer-country-region",
        "cloudfront-viewer-country-region-name",
    ]),
    (Class::Latent, "Amazon CloudFront: address, place and connection of the visitor", &["cloudfront-viewer-*"]),
    (Class::Latent, "Amazon Web Services", &[
        "x-amz-cf-*", "x-amzn-requestid", "x-amzn-tls-*", "x-amzn-trace-id",
    ]),
    (Class::Latent, "Akamai", &["akamai-*", "x-akamai-*", "x-edgeconnect-*"]),
    (Class::Latent, "Fastly and Varnish", &[
        "fastly-*", "x-cache*", "x-served-by", "x-sigsci-*", "x-timer", "x-varnish",
    ]),
    (Class::Latent, "Fly", &["fly-*"]),
    (Class::Latent, "Azure Front Door", &[
        "x-azure-clientip", "x-azure-fdid", "x-azure-ref", "x-azure-requestchain", "x-azure-socketip",
        "x-fd-healthprobe",
    ]),
    (Class::Latent, "Azure Application Gateway", &["x-appgw-trace-id"]),
    (Class::Latent, "Azure App Service and IIS ARR", &["x-arr-log-id", "x-site-deployment-id"]),
    (Class::Latent, "Google Cloud", &["x-appengine-*", "x-cloud-trace-context"]),
    (Class::Latent, "Envoy and Istio", &[
        "x-client-trace-id", "x-envoy-*", "x-istio-attributes",
    ]),
    (Class::Latent, "HAProxy: unique-id-header", &["unique-id", "x-unique-id"]),
    (Class::Latent, "Kong", &["kong-request-id", "x-kong-request-id"]),
    (Class::Latent, "nginx and its ingress", &["x-nginx-*", "x-req-id"]),
    (Class::Latent, "Apigee, Gravitee, Tyk, WSO2", &[
        "activityid", "x-apigee-*", "x-gravitee-request-id", "x-gravitee-transaction-id", "x-tyk-*",
    ]),
    (Class::Latent, "Cloud Foundry and SAP", &["sap-passport", "x-cf-true-client-ip", "x-vcap-request-id"]),
    (Class::Latent, "Heroku", &["connect-time", "total-route-time", "x-heroku-*"]),
    (Class::Latent, "Netlify, Railway, Render, Vercel", &[
        "rndr-id", "x-nf-*", "x-railway-*", "x-vercel-*",
    ]),
    (Class::Latent, "Imperva, Sucuri, bunny.net, DigitalOcean", &[
        "cdn-connectionid", "cdn-requestid", "cdn-serverid", "cdn-serverzone", "do-connecting-ip", "incap-*",
        "x-sucuri-*",
    ]),
    (Class::Latent, "Alibaba Cloud, Tencent Cloud, Wangsu", &[
        "ali-cdn-*", "ali-swift-*", "cdn-src-ip", "cdn-src-port", "eagleeye-*", "x-cdn-src-port", "x-nws-log-uuid",
    ]),
    (Class::Latent, "edge servers of several makers", &["x-edge-*"]),

    // Tracers.
    (Class::Latent, "W3C Trace Context and Baggage", &["baggage", "traceparent", "tracestate"]),
    (Class::Latent, "Zipkin: B3", &["b3", "x-b3-*"]),
    (Class::Latent, "OpenTracing, LightStep", &["ot-baggage-*", "ot-tracer-*", "x-ot-*"]),
    (Class::Latent, "Jaeger", &["jaeger-*", "uber-trace-id", "uberctx-*"]),
    (Class::Latent, "Datadog", &["x-datadog-*"]),
    (Class::Latent, "New Relic", &["newrelic", "x-newrelic-*"]),
    (Class::Latent, "Elastic APM", &["elastic-apm-*"]),
    (Class::Latent, "Dynatrace", &["x-dtc", "x-dtpc", "x-dtreferer", "x-dynatrace*", "x-ruxit-*"]),
    (Class::Latent, "AppDynamics", &["adrum*", "singularityheader"]),
    (Class::Latent, "Instana", &["x-instana-*"]),
    (Class::Latent, "Apache SkyWalking", &["sw3", "sw6", "sw8", "sw8-correlation", "sw8-x"]),
    (Class::Latent, "Pinpoint", &["pinpoint-*"]),
    (Class::Latent, "Sentry", &["sentry-trace"]),
    (Class::Latent, "Honeycomb, Stackify, LogRocket", &["x-honeycomb-trace", "x-logrocket-*", "x-stackify-id"]),
    (Class::Latent, "SolarWinds", &["x-trace", "x-trace-*"]),
    (Class::Latent, "gRPC", &["grpc-trace-bin"]),
    (Class::Latent, "Azure Application Insights and Microsoft's services", &[
        "correlation-context", "ms-cv", "request-context", "request-id", "x-ms-client-request-id",
        "x-ms-client-session-id", "x-ms-correlation-id", "x-ms-request-id", "x-ms-request-root-id",
    ]),

    // Ids and times of one request, by convention.
    (Class::Latent, "draft-ietf-httpapi-idempotency-key-header", &["idempotency-key", "x-idempotency-key"]),
    (Class::Latent, "convention: an id of the request", &[
        "correlation-id", "span-id", "trace-id", "traceid", "transaction-id", "x-call-id", "x-client-request-id",
        "x-correlation-id", "x-correlationid", "x-flow-id", "x-global-transaction-id", "x-message-id",
        "x-operation-id", "x-request-id", "x-requestid", "x-span-id", "x-traceid", "x-transaction-id",
    ]),
    (Class::Latent, "convention: when a hop got the request", &["x-queue-start", "x-request-start"]),
];
