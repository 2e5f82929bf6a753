#!/usr/bin/env bash
# nats-server 2.9.10 (Debian 12, package nats-server 2.9.10-1+b3), nats-py 2.9.0 (PyPI).
#
# In a key-value bucket of JetStream, a key that is deleted does not leave the stream: its last
# value becomes a marker, a message without content, which stays for ever. A bucket with a
# history of one and a bounded number of live keys grows with each key that ever was. `purge`
# of a key leaves a marker as well, and by default the bucket's own `purge_deletes` keeps
# markers of the last half hour. Only a `ttl` of the bucket, which ends live keys too, bounds
# it from the outside.
#
# A program that writes bodies under a new name each time, and deletes the old name, fills the
# store with markers, while its list of keys stays short.
#
# Seen: live keys 1, messages in the stream 101 after 100 puts and deletes
#       live keys 1, messages 101 after a purge of each, and 101 after purge_deletes()
#
# Needs apt-get (Debian 12), python3 with venv. Fails if the behaviour is another.
set -euo pipefail

version=2.9.10-1+b3
folder=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -qq "nats-server=$version" || {
    echo "the package nats-server $version is not to be had here" >&2
    exit 2
}
dpkg-deb -x nats-server_*.deb root
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check nats-py==2.9.0

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
program=$(find root -type f -name nats-server -perm -u+x | head -n 1)
"$program" --version
"$program" --addr 127.0.0.1 --port "$port" --jetstream --store_dir "$folder/data" \
    >server.log 2>&1 &
server=$!

cat >look.py <<'PYTHON'
import asyncio
import sys

import nats
from nats.js.api import KeyValueConfig


async def counts(js, bucket):
    keys = await bucket.keys()
    messages = (await js.stream_info("KV_bodies")).state.messages
    return len(keys), messages


async def main():
    client = await nats.connect(sys.argv[1], max_reconnect_attempts=50, reconnect_time_wait=0.1)
    js = client.jetstream()
    bucket = await js.create_key_value(KeyValueConfig(bucket="bodies", history=1))
    await bucket.put("page", b"names the newest body")
    for number in range(100):
        await bucket.put(f"body{number}", b"x" * 1000)
        await bucket.delete(f"body{number}")
    deleted = await counts(js, bucket)
    print("live keys, messages after 100 puts and deletes:", *deleted)
    for number in range(100):
        await bucket.purge(f"body{number}")
    purged = await counts(js, bucket)
    print("after a purge of each:", *purged)
    await bucket.purge_deletes()
    cleared = await counts(js, bucket)
    print("after purge_deletes():", *cleared)
    await client.close()
    return deleted == (1, 101) and purged == (1, 101) and cleared == (1, 101)


sys.exit(0 if asyncio.run(main()) else 1)
PYTHON
for _ in $(seq 100); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
    sleep 0.1
done
venv/bin/python look.py "nats://127.0.0.1:$port" || { echo "another behaviour" >&2; exit 1; }
echo "as described: deleted keys stay in the stream"
