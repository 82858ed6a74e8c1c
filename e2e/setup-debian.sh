#!/bin/sh
# Installs what the test cluster needs on Debian: `ferromesh-e2e cluster up` names what is missing.
# Go (1.26, or any from 1.21 on that may fetch a newer tool chain) is needed once, to build Kubernetes; Debian 12's own is too old,
# so it is only installed where the archive has a new one.
set -eu
[ "$(id -u)" = 0 ] || exec sudo "$0" "$@"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends \
  util-linux mount hostname iproute2 containerd runc containernetworking-plugins iptables nftables conntrack
# This package starts a containerd of the whole machine; the cluster's nodes have their own.
if command -v systemctl >/dev/null && systemctl is-active -q containerd 2>/dev/null; then
  echo "note: the machine's own containerd was started by its package; the test cluster does not use it"
fi
command -v go >/dev/null || apt-get install -y -qq --no-install-recommends golang-1.26-go 2>/dev/null || cat <<'NOTE'
note: no Go is installed, and this archive has none that is new enough: install Go 1.26 and put it on the PATH,
then build the tools once with: ferromesh-e2e tools build
NOTE
