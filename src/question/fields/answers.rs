//! Fields of an answer that speak of one moment or of one request, with the source of each
//! name.
//!
//! A `*` at the end stands for any ending. Names of one row are in order.

/// Where fields come from, and their names in lower case.
#[rustfmt::skip]
pub(super) const MOMENTARY: &[(&str, &[&str])] = &[
    ("RFC 9110 sections 10.2.3 and 11.6.3", &["authentication-info", "retry-after"]),
    ("RFC 7838: where the origin is at this moment", &["alt-svc"]),
    ("W3C Clear Site Data", &["clear-site-data"]),
    ("W3C Server Timing", &["server-timing"]),
    ("W3C Trace Context, level 2", &["traceparent", "traceresponse", "tracestate"]),
    ("RFC 8555 section 6.5, RFC 9449 section 8: a nonce for the next request", &["dpop-nonce", "replay-nonce"]),
    ("CTA-5006: Common Media Server Data of one hop", &["cmsd-dynamic"]),
    ("draft-ietf-httpapi-ratelimit-headers, and before", &["ratelimit*", "x-rate-limit*", "x-ratelimit*"]),
    ("convention: a token of the visitor against forged requests", &["x-csrf-token", "x-xsrf-token"]),
    ("convention: an id of the request", &[
        "correlation-id", "request-id", "trace-id", "x-correlation-id", "x-correlationid", "x-req-id", "x-request-guid",
        "x-request-id", "x-requestid", "x-span-id", "x-trace", "x-trace-id", "x-traceid", "x-transaction-id",
    ]),
    ("convention: how long the answer took", &[
        "x-duration", "x-elapsed-time", "x-execution-time", "x-generation-time", "x-process-time",
        "x-processing-time", "x-request-time", "x-response-time", "x-runtime",
    ]),

    // Tracers.
    ("Zipkin: B3", &["b3", "x-b3-*"]),
    ("Jaeger", &["uber-trace-id"]),
    ("Datadog", &["x-datadog-*"]),
    ("New Relic", &["newrelic", "x-newrelic-*"]),
    ("Dynatrace", &["x-dt-tracestate", "x-dynatrace"]),
    ("AppDynamics", &["adrum*"]),
    ("Instana", &["x-instana-*"]),
    ("Sentry", &["sentry-trace"]),
    ("MiniProfiler, Clockwork, Symfony", &["x-clockwork-id", "x-debug-token*", "x-miniprofiler-ids"]),

    // Platforms.
    ("Amazon Web Services", &[
        "x-amz-apigw-id", "x-amz-cf-id", "x-amz-id-2", "x-amz-request-id", "x-amzn-requestid", "x-amzn-trace-id",
    ]),
    ("Azure and Microsoft's services", &[
        "ms-cv", "x-activity-id", "x-appgw-trace-id", "x-aspnet-duration-ms", "x-azure-ref", "x-ms-activity-id",
        "x-ms-client-request-id", "x-ms-correlation-request-id", "x-ms-ratelimit-*", "x-ms-request-charge",
        "x-ms-request-id", "x-ms-routing-request-id", "x-msedge-ref",
    ]),
    ("SharePoint", &[
        "spclientservicerequestduration", "spiislatency", "sprequestduration", "sprequestguid",
        "x-sharepointhealthscore",
    ]),
    ("Google Cloud", &["x-cloud-trace-context", "x-guploader-uploadid"]),
    ("Cloudflare", &["cf-ray", "cf-request-id"]),
    ("Akamai", &["akamai-grn", "akamai-request-bc", "x-akamai-request-id", "x-edgeconnect-*"]),
    ("Fastly and Varnish", &["x-timer", "x-varnish"]),
    ("Envoy", &["x-envoy-upstream-service-time"]),
    ("HAProxy: unique-id-header", &["unique-id", "x-unique-id"]),
    ("Kong", &["kong-request-id", "x-kong-*"]),
    ("Cloud Foundry, SAP, IBM, Oracle", &[
        "opc-request-id", "x-global-transaction-id", "x-oracle-dms-ecid", "x-oracle-dms-rid", "x-vcap-request-id",
    ]),
    ("bunny.net, Fly, Netlify, Railway, Render, Vercel", &[
        "cdn-requestid", "fly-request-id", "rndr-id", "x-nf-request-id", "x-railway-request-id", "x-vercel-id",
    ]),
    ("Alibaba Cloud, Huawei Cloud, Tencent Cloud", &[
        "eagleeye-traceid", "eagleid", "x-cos-request-id", "x-cos-trace-id", "x-nws-log-uuid", "x-obs-id-2",
        "x-obs-request-id", "x-oss-request-id", "x-oss-server-time",
    ]),
    ("services with an API", &[
        "atl-request-id", "atl-traceid", "sp-trace-id", "twilio-request-duration", "twilio-request-id", "x-arequestid",
        "x-asessionid", "x-dropbox-request-id", "x-fb-debug", "x-fb-request-id", "x-fb-trace-id", "x-github-request-id",
        "x-gitlab-meta", "x-li-uuid", "x-sfdc-request-id", "x-shopify-shop-api-call-limit", "x-slack-req-id",
        "x-slack-unique-id",
    ]),
];
