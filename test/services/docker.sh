#!/usr/bin/env bash
# A Docker engine for tests, beside the machine's own if it has one: no registry, nothing installed as a service.
#
#   docker.sh base DIR RELEASE   makes DIR/debian-RELEASE.tar, what debian:RELEASE-slim holds, from the machine's mirror
#   docker.sh serve DIR TREE     runs the engine of the Debian in TREE on DIR/docker.sock until SIGTERM
#   docker.sh alone DIR TREE     the same without a network: it touches nothing of the machine's, and there may be several
#
# The images of DIR outlive the engine. They hold how this machine reaches its mirrors, certificates included: they are
# for tests, and must never be published. One engine with a network at a time on a machine; another one waits for its end.
# Needs root, iptables, runc and debootstrap.
set -euo pipefail
export LC_ALL=C
verb=$1 dir=$2
mkdir -p "$dir"

mirror() {
  {
    sed -n 's/^URIs:[[:space:]]*\([^[:space:]]*\).*/\1/p' /etc/apt/sources.list.d/*.sources
    sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\([^[:space:]]*\).*/\2/p' /etc/apt/sources.list /etc/apt/sources.list.d/*.list || true
  } 2>/dev/null | grep -m1 '/debian/*$'
}

# --- the base image ---------------------------------------------------------------------------

base() {
  local release=$1 root=$dir/rootfs out=$dir/debian-$1.tar here
  here=$(. /etc/os-release; echo "$VERSION_CODENAME")
  rm -rf "$root"
  debootstrap --variant=minbase --include=ca-certificates "$release" "$root" "$(mirror)" >"$dir/debootstrap.log" ||
    { tail -n 5 "$dir/debootstrap.log" >&2; return 1; }
  # The machine's way to packages: its apt sources for this release, its apt settings, its certificate authorities.
  rm -rf "$root"/etc/apt/sources.list*
  mkdir -p "$root/etc/apt/sources.list.d"
  cp /etc/apt/sources.list.d/debian.sources "$root/etc/apt/sources.list.d/" 2>/dev/null ||
    cp /etc/apt/sources.list "$root/etc/apt/sources.list"
  find "$root"/etc/apt/sources.list* -type f -exec sed -i "s/\b$here\b/$release/g" {} +
  grep -lEsr '^(Acquire::(Check-|http|https)|APT::Sandbox)' /etc/apt/apt.conf.d | xargs -r cp -t "$root/etc/apt/apt.conf.d/"
  find /usr/local/share/ca-certificates -name '*.crt' -exec cp -t "$root/usr/local/share/ca-certificates/" {} + 2>/dev/null || true
  chroot "$root" update-ca-certificates >/dev/null 2>&1
  # Slim as the official image is.
  printf 'path-exclude /usr/share/%s/*\n' doc man info locale >"$root/etc/dpkg/dpkg.cfg.d/docker"
  printf '%s\n' 'Acquire::Languages "none";' 'Acquire::Retries "3";' 'Acquire::http::Timeout "30";' \
    'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };' >"$root/etc/apt/apt.conf.d/docker-slim"
  rm -rf "$root"/usr/share/{doc,man,info,locale}/* "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
  chmod 755 "$root/usr/sbin/policy-rc.d"
  : >"$root/etc/resolv.conf"
  tar --numeric-owner --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' -C "$root" -cf "$out.part" .
  mv "$out.part" "$out"
  rm -rf "$root"
}

# --- the engine -------------------------------------------------------------------------------

bridge=cairn-test0
subnet=10.214.0
export DOCKER_HOST=unix://$dir/docker.sock

# Only the engine's own programs: those beside them in the tree want the tree's libraries.
programs() {
  local tree=$1 name
  mkdir -p "$dir/bin" "$dir/config"
  for name in dockerd docker containerd containerd-shim-runc-v2 docker-proxy; do
    ln -sfn "$(ls "$tree"/usr/{sbin,bin,libexec/docker,lib/docker}/$name 2>/dev/null | head -n1)" "$dir/bin/$name"
  done
  printf '{"cliPluginsExtraDirs":["%s"]}\n' "$tree/usr/libexec/docker/cli-plugins" >"$dir/config/config.json"
  export PATH=$dir/bin:$PATH DOCKER_CONFIG=$dir/config
}

network() {
  ip link show $bridge >/dev/null 2>&1 || ip link add $bridge type bridge
  ip addr replace $subnet.1/24 dev $bridge
  ip link set $bridge up
}

engine() {
  exec dockerd --host "$DOCKER_HOST" --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/pid" --group root \
    --log-level warn --exec-opt native.cgroupdriver=cgroupfs --shutdown-timeout 3 "$@"
}

empty() {
  local ids
  ids=$(docker ps -aq 2>/dev/null || true)
  [ -z "$ids" ] || docker rm -fv $ids >/dev/null 2>&1 || true
  { docker network prune -f && docker volume prune -f && docker image prune -f && docker builder prune -f --keep-storage 5GB; } >/dev/null 2>&1 || true
}

unmount() {
  { grep -F " $dir/" /proc/mounts || true; } | cut -d' ' -f2 | sort -r | xargs -r -n1 umount -l 2>/dev/null || true
}

# dockerd leaves its bridge and firewall rules behind; these are of nobody else unless another engine runs.
tidy() {
  unmount
  ip link del $bridge 2>/dev/null || true
  local exe table ipt
  for exe in /proc/[0-9]*/exe; do [[ $(readlink "$exe" 2>/dev/null) != */dockerd ]] || return 0; done
  for ipt in iptables ip6tables; do for table in nat filter; do
    { $ipt -t $table -S 2>/dev/null || true; } | sed -nE "/DOCKER|$bridge|br-[0-9a-f]{12}|-s ${subnet%.*}\./s/^-A/-D/p" |
      while read -r rule; do eval "$ipt -t $table $rule" 2>/dev/null || true; done
    { $ipt -t $table -S 2>/dev/null || true; } | sed -n 's/^-N \(DOCKER.*\)/\1/p' |
      while read -r chain; do $ipt -t $table -F "$chain" || true; $ipt -t $table -X "$chain" || true; done 2>/dev/null
  done; done
}

# SIGHUP ends the engine and starts it anew, as an update of Docker does; SIGTERM ends it. The containers go with it.
supervise() {
  local again=1 child=
  trap 'again=; empty; kill -TERM $child 2>/dev/null || true' TERM INT
  trap 'again=1; kill -TERM $child 2>/dev/null || true' HUP
  while [ -n "$again" ]; do
    again=
    rm -f "$dir/pid" "$dir/docker.sock" "$dir/data/network/files/local-kv.db" # remembers a bridge that may be gone
    engine "$@" 9>&- &
    child=$!
    while kill -0 $child 2>/dev/null; do wait $child || true; done
  done
}

serve() {
  exec 9>"$dir/lock"
  flock 9
  tidy
  network
  local forward
  forward=$(iptables -S FORWARD | sed -n 's/^-P //p') # dockerd may change it to DROP
  supervise --bridge $bridge --default-address-pool "base=${subnet%.*}.128.0/17,size=24"
  tidy
  iptables -P $forward
}

alone() {
  supervise --bridge none --iptables=false --ip6tables=false
  unmount
}

case $verb in
  base) base "$3" ;;
  serve | alone)
    programs "$3"
    $verb
    ;;
  *) exit 2 ;;
esac
