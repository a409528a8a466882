#!/bin/sh
# Prints the path of a varan program: the one that VARAN_BINARY names, a released one whose
# checksum is the one expected, or one built from the source that this action came with.
# Everything comes in by environment variables; nothing of them is ever evaluated.
set -eu

fail() {
	printf '::error title=varan::%s\n' "$1" >&2
	exit 64
}

if [ -n "${VARAN_BINARY:-}" ]; then
	[ -x "$VARAN_BINARY" ] || fail 'the input binary names no program'
	printf '%s\n' "$VARAN_BINARY"
	exit 0
fi

target="${RUNNER_TEMP:-/tmp}/varan-program"
mkdir -p "$target"
if [ -z "${VARAN_VERSION:-}" ]; then
	(cd "${GITHUB_ACTION_PATH:?}/../../.." && CGO_ENABLED=0 go build -trimpath -o "$target/varan" ./cmd/varan) >&2
	printf '%s\n' "$target/varan"
	exit 0
fi

case $VARAN_VERSION in
*[!A-Za-z0-9.+-]*) fail 'the input version is no version' ;;
esac
case ${VARAN_CHECKSUM:-} in
'' | *[!0-9a-f]*) fail 'the input checksum must be the SHA-256 of the released program, in lower case; SHA256SUMS of the release has it' ;;
esac
case $(uname -s) in
Linux) os=linux ;;
Darwin) os=darwin ;;
*) fail 'there is no released program for this system' ;;
esac
case $(uname -m) in
x86_64 | amd64) arch=amd64 ;;
aarch64 | arm64) arch=arm64 ;;
armv7l) arch=armv7 ;;
*) fail 'there is no released program for this processor' ;;
esac
releases=${VARAN_RELEASES:-https://github.com/varanhq/varan/releases/download}
curl -fsSL --retry 3 -o "$target/varan.part" "$releases/$VARAN_VERSION/varan-$os-$arch" || fail 'the release cannot be downloaded'
if command -v sha256sum >/dev/null 2>&1; then
	sum=$(sha256sum "$target/varan.part")
else
	sum=$(shasum -a 256 "$target/varan.part")
fi
if [ "${sum%% *}" != "$VARAN_CHECKSUM" ]; then
	rm -f "$target/varan.part"
	fail 'the downloaded program has another checksum than expected'
fi
chmod 755 "$target/varan.part"
mv "$target/varan.part" "$target/varan"
printf '%s\n' "$target/varan"
