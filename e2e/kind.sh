#!/bin/sh
# For who has Docker: a kind cluster with this source tree's images in it. Tests and the tutorial take its KUBECONFIG like any other.
#   e2e/kind.sh [CLUSTER]
set -eu
cluster=${1:-ferromesh}
cd "$(dirname "$0")/.."
for program in kind cargo; do
  command -v "$program" >/dev/null || { echo "$program is not on the PATH; kind: https://kind.sigs.k8s.io" >&2; exit 1; }
done
kind get clusters | grep -qx "$cluster" || kind create cluster --name "$cluster"
images=$(mktemp -d)
trap 'rm -rf "$images"' EXIT
cargo run --quiet --release -p ferromesh-e2e -- image build --profile "${PROFILE:-release}" --output "$images"
for archive in "$images"/*.tar; do
  kind load image-archive --name "$cluster" "$archive"
done
