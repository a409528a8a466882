#!/usr/bin/env bash
# Builds the static binaries of one target into a directory:
#   build-release.sh linux/arm64 dist
# Linux gets the whole program and the small agent; macOS and Windows the CLI only.
set -euo pipefail
cd "$(dirname "$0")/.."
IFS=/ read -r goos goarch goarm <<<"$1"
out=$2
mkdir -p "$out"
version=${VERSION:-$(git describe --tags --always --dirty)}
compose=$(go list -m -f '{{.Version}}' github.com/docker/compose/v5)
ldflags="-s -w -X github.com/varanhq/varan/internal/buildinfo.version=$version -X github.com/varanhq/varan/internal/buildinfo.commit=$(git rev-parse --short=12 HEAD) -X github.com/docker/compose/v5/internal.Version=${compose#v}"
ext=""
[ "$goos" = windows ] && ext=.exe
suffix="$goos-$goarch${goarm:+v$goarm}"
commands=(varan)
[ "$goos" = linux ] && commands+=(varan-agent)
for c in "${commands[@]}"; do
	CGO_ENABLED=0 GOOS=$goos GOARCH=$goarch GOARM=${goarm:-} \
		go build -trimpath -buildvcs=true -ldflags "$ldflags" -o "$out/$c-$suffix$ext" "./cmd/$c"
done
