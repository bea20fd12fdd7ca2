#!/usr/bin/env bash
# Programs of a newer Debian release, in a folder of their own beside the running system.
#
#   debian-tree.sh make ROOT SUITE PACKAGE...   make the tree, or add the packages it lacks
#   debian-tree.sh run  ROOT DIR COMMAND...     run a command inside, where DIR is /mnt
#
# The command has the machine's network and processes, so its pids mean the same outside. Mounts live in a private
# namespace and go with the command. Needs root, Debian with working apt sources, and debootstrap.
# A make that was killed leaves no `.tree` mark behind, and the next one starts over.
set -euo pipefail
verb=$1 root=$2
shift 2

# The machine's own mirror, from either form of apt sources.
mirror() {
  {
    sed -n 's/^URIs:[[:space:]]*\([^[:space:]]*\).*/\1/p' /etc/apt/sources.list.d/*.sources
    sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\([^[:space:]]*\).*/\2/p' /etc/apt/sources.list /etc/apt/sources.list.d/*.list || true
  } 2>/dev/null | grep -m1 '/debian/*$'
}

# The shell becomes the command: a signal for one is a signal for the other.
enter() {
  exec unshare --mount --propagation private bash -euc '
    root=$1 dir=$2; shift 2
    mount -t proc proc "$root/proc"; mount --rbind /dev "$root/dev"; mount --rbind /sys "$root/sys"
    mount --rbind "$dir" "$root/mnt"
    exec chroot "$root" "$@"' - "$root" "$@"
}

bootstrap() {
  local suite=$1 from
  from=$(mirror)
  [ -n "$from" ] || { echo 'no Debian mirror in the apt sources' >&2; return 1; }
  rm -rf "$root"
  # Older releases' debootstrap has no script of the newest suites' names; all of them are sid's.
  debootstrap --variant=minbase "$suite" "$root" "$from" /usr/share/debootstrap/scripts/sid || return 1
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
  chmod +x "$root/usr/sbin/policy-rc.d"
  mkdir -p "$root/etc/postgresql-common"
  echo 'create_main_cluster = false' >"$root/etc/postgresql-common/createcluster.conf"
  rm -f "$root"/etc/apt/sources.list.d/*
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $from $suite main" >"$root/etc/apt/sources.list"
  # A mirror's snapshot may be older than its Release file says it may be.
  printf '%s\n' 'Acquire::Check-Valid-Until "false";' 'Acquire::Retries "3";' 'APT::Sandbox::User "root";' \
    >"$root/etc/apt/apt.conf.d/90tree"
  printf 'path-exclude=/usr/share/%s/*\n' doc man info locale >"$root/etc/dpkg/dpkg.cfg.d/90tree"
  cp /etc/resolv.conf /etc/hosts "$root/etc/"
  mkdir -p "$root/sys"
  touch "$root/.tree"
}

make() {
  local suite=$1
  shift
  [ -e "$root/.tree" ] || bootstrap "$suite"
  enter "$root/mnt" sh -euc '
    export DEBIAN_FRONTEND=noninteractive
    dpkg --configure -a
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends --no-install-suggests "$@"
    apt-get clean' - "$@"
}

case $verb in
  make) make "$@" ;;
  run) enter "$@" ;;
  *) exit 2 ;;
esac
