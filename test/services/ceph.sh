#!/usr/bin/env bash
# A Ceph cluster of one node and its S3 gateway, in memory, in the foreground: ceph.sh DIR PORT USERS
#
# Needs ceph-mon, ceph-osd, ceph-common and radosgw, no root. Everything lives in DIR and listens on 127.0.0.1 only:
# S3 on PORT, the monitor on PORT+1, the store on PORT+2 to PORT+19. USERS is a file of lines `name access-key secret-key`.
# TERM ends everything.
set -euo pipefail
dir=$1 port=$2 users=$3
conf=$dir/ceph.conf
trap 'kill -KILL $(jobs -p) 2>/dev/null' EXIT
trap 'exit 0' TERM INT
mkdir -p "$dir"/{mon,osd,run}
fsid=$(cat /proc/sys/kernel/random/uuid)

cat >"$conf" <<END
[global]
fsid = $fsid
mon host = [v2:127.0.0.1:$((port + 1))]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
ms bind port min = $((port + 2))
ms bind port max = $((port + 19))
# Nobody else is on this loopback. The gateway's own default, "secure", would wait for keys for ever.
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
keyring = $dir/keyring
admin socket =
run dir = $dir/run
crash dir = $dir/run
log to stderr = true
# One copy on one disk, and few placement groups.
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 2000

[mon]
mon data = $dir/mon
mon cluster log file = $dir/run/cluster.log
mon data avail crit = 1
mon data avail warn = 2
# Starting is a chain of map changes; each waits a second by default.
paxos propose interval = 0.02
paxos min wait = 0.01

[osd]
osd data = $dir/osd
osd objectstore = memstore
memstore device bytes = $((8 << 30))
osd crush initial weight = 1

[client.rgw.a]
rgw data = $dir/run
rgw frontends = beast endpoint=127.0.0.1:$port
rgw dns name = localhost
# Customer keys (SSE-C) over plain http, and a key manager (SSE-KMS) with one key.
rgw crypt require ssl = false
rgw crypt s3 kms backend = testing
rgw crypt s3 kms encryption keys = testkey-1=$(head -c32 /dev/urandom | base64)
rgw enable usage log = false
# What was deleted is given back within seconds, not after two hours.
rgw gc obj min wait = 5
rgw gc processor period = 5
rgw gc processor max time = 5
END

# A monitor that is not told its name by a map calls itself "noname-a" and looks for others for ever.
monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:$((port + 1))]" "$dir/monmap" >/dev/null
ceph-mon --mkfs -i a -c "$conf" --monmap "$dir/monmap"
ceph-mon -f -i a -c "$conf" &

osd=$(cat /proc/sys/kernel/random/uuid)
ceph -c "$conf" --connect-timeout 30 osd new "$osd" 0 >/dev/null
ceph-osd --mkfs -i 0 --osd-uuid "$osd" -c "$conf"
ceph-osd -f -i 0 -c "$conf" &

# Commands wait for the store by themselves.
while read -r name access secret; do
  radosgw-admin -c "$conf" user create --uid="$name" --display-name="$name" \
    --access-key="$access" --secret-key="$secret" >/dev/null
done <"$users"
radosgw -f -n client.rgw.a -c "$conf" &

wait -n
echo 'one of the daemons ended' >&2
exit 1
