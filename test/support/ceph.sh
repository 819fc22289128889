#!/usr/bin/env bash
# A real S3 server for tests: Ceph's RADOS gateway over one in-memory OSD, on 127.0.0.1 alone.
#
#   ceph.sh DIR PORT MONITOR_PORT     start; all state lives in DIR. Takes about 12 s
#   ceph.sh DIR stop                  stop what was started there
#
# Needs the packages radosgw, ceph-mon, ceph-osd, ceph-common and uuid-runtime. Keys: TESTKEY and TESTSECRET, with
# path-style addresses. Nothing is kept once it stops.
set -euo pipefail
dir=${1:?DIR} port=${2:?PORT}
if [ "$port" = stop ]; then
  pids=$(cat "$dir"/run/*.pid 2>/dev/null || true)
  [ -z "$pids" ] || kill -9 $pids 2>/dev/null || true
  exit 0
fi
monitor_port=${3:?MONITOR_PORT}
mkdir -p "$dir"/{mon,osd,run,log}
fsid=$(uuidgen)
cat >"$dir/ceph.conf" <<CONF
[global]
fsid = $fsid
mon host = [v1:127.0.0.1:$monitor_port]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
mon allow pool size one = true
mon max pg per osd = 1000
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = ${CEPH_MEMORY_BYTES:-4294967296}
run dir = $dir/run
pid file = $dir/run/\$name.pid
admin socket = $dir/run/\$name.asok
log file = $dir/log/\$name.log
keyring = $dir/keyring
mon data = $dir/mon
osd data = $dir/osd
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:$port
rgw thread pool size = 64
rgw gc obj min wait = 1
rgw gc processor period = 5
rgw crypt require ssl = false
rgw crypt s3 kms backend = testing
rgw crypt s3 kms encryption keys = test-key=YmluCmJvb3N0CmJvb3N0LWJ1aWxkCmNlcGguY29uZgo=
CONF
export CEPH_CONF=$dir/ceph.conf
cd "$dir"
exec 3>&2 2>"$dir/log/start.log"
trap 'tail -n 5 "$dir/log/start.log" >&3' ERR
monmaptool --create --fsid "$fsid" --addv a "[v1:127.0.0.1:$monitor_port]" monmap >/dev/null
ceph-authtool --create-keyring keyring --gen-key -n mon. --cap mon 'allow *' >/dev/null
ceph-authtool keyring --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *' >/dev/null
ceph-mon --mkfs -i a --monmap monmap --keyring keyring
ceph-mon -i a >/dev/null 3>&-
osd=$(uuidgen)
# The monitor may not have taken up its work yet.
for try in 1 2 3 4 5 6 7 8 9 10; do
  timeout 60 ceph osd new "$osd" >/dev/null && break
  [ "$try" -lt 10 ] && sleep 0.5
done
ceph-osd -i 0 --mkfs --osd-uuid "$osd" >/dev/null
ceph-osd -i 0 >/dev/null 3>&- || { sleep 2; ceph-osd -i 0 >/dev/null 3>&-; } # once in a while the monitor is not ready for it
timeout 90 radosgw-admin user create --uid=test --display-name=test --access-key=TESTKEY --secret-key=TESTSECRET >/dev/null
for class in STANDARD_IA GLACIER_IR; do
  radosgw-admin zonegroup placement add --rgw-zonegroup default --placement-id default-placement --storage-class "$class" >/dev/null
  radosgw-admin zone placement add --rgw-zone default --placement-id default-placement --storage-class "$class" --data-pool default.rgw.cold >/dev/null
done
radosgw -n client.rgw >/dev/null 3>&-
