#!/usr/bin/env bash
# nginx 1.22.1 (Debian 12, package nginx 1.22.1-9+deb12u11), gzip filter.
#
# A 200 that nginx compresses has a weak entity tag: W/"x". A request with
# `If-None-Match: W/"x"` gets a 304 whose tag is the strong one: "x". So the 304 does not name,
# by strong comparison, the representation that the client has, although nothing has changed.
# RFC 9110 section 15.4.5 wants the 304 to have the ETag that the 200 would have had.
#
# A cache that selects the stored response by the tag of a 304 with a strong comparison finds
# none, and asks once more without a condition: each refresh costs two requests.
#
# Seen: 200 etag: W/"<hex>-<hex>", content-encoding: gzip
#       304 etag: "<hex>-<hex>"
#
# Needs apt-get (Debian 12), curl. Fails if the behaviour is another.
set -euo pipefail

version=1.22.1-9+deb12u11
folder=$(mktemp -d)
nginx=
trap 'test -z "$nginx" || kill "$nginx" 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -qq "nginx=$version" || {
    echo "the package nginx $version is not to be had here" >&2
    exit 2
}
dpkg-deb -x nginx_*.deb root

mkdir -p site temp
head -c 4000 /dev/zero | tr '\0' 'a' >site/page.css
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >nginx.conf <<CONF
daemon off;
master_process off;
pid $folder/pid;
error_log stderr warn;
events {}
http {
    types { text/css css; }
    access_log off;
    client_body_temp_path $folder/temp;
    proxy_temp_path $folder/temp;
    fastcgi_temp_path $folder/temp;
    uwsgi_temp_path $folder/temp;
    scgi_temp_path $folder/temp;
    gzip on;
    gzip_types text/css;
    server {
        listen 127.0.0.1:$port;
        root $folder/site;
    }
}
CONF
root/usr/sbin/nginx -p "$folder" -c "$folder/nginx.conf" -e stderr &
nginx=$!
url=http://127.0.0.1:$port/page.css
curl --silent --retry 50 --retry-connrefused --retry-delay 1 --output /dev/null "$url"

head_of() {
    curl --silent --output /dev/null --dump-header - --header 'Accept-Encoding: gzip' "$@" "$url" |
        tr -d '\r' | tr '[:upper:]' '[:lower:]' | grep -E '^(http|etag|content-encoding)'
}
root/usr/sbin/nginx -v 2>&1
first=$(head_of)
echo "$first"
tag=$(echo "$first" | sed -n 's/^etag: //p' | sed 's/^w/W/')
second=$(head_of --header "If-None-Match: $tag")
echo "$second"

strong=${tag#W/}
[[ $tag == W/* ]] || { echo "the 200 has no weak tag" >&2; exit 1; }
echo "$second" | grep -q ' 304' || { echo "no 304" >&2; exit 1; }
echo "$second" | grep -qxF "etag: $strong" || { echo "the 304 has another tag" >&2; exit 1; }
echo "as described: the 200 has $tag, the 304 has $strong"
