#!/bin/sh
# Installs the Varan agent on this host, or brings it to the version of its core. Run it as often
# as you like: what is as it should be stays untouched. Nothing in here is secret; the onboarding
# key comes in the environment (VARAN_ONBOARDING_KEY) or in a file (VARAN_ONBOARDING_KEY_FILE) and
# goes on through a pipe, because arguments show in the list of processes.
#
#   curl -fsSL @CORE@/install.sh | VARAN_ONBOARDING_KEY=... sh
#   curl -fsSL @CORE@/install.sh | sh -s -- --connect-as web-1
#
# What follows "--" goes to "varan-agent install". DESTDIR installs below another directory.
set -eu

core='@CORE@'
version='@VERSION@'

# The agents that core has, by their SHA-256.
sum_for() {
	case $1 in
	@PROGRAMS@
	esac
}

die() {
	printf 'varan: %s\n' "$1" >&2
	exit 1
}

platform() {
	os=$(uname -s | tr '[:upper:]' '[:lower:]')
	arch=$(uname -m)
	case $arch in
	x86_64 | amd64) arch=amd64 ;;
	aarch64 | arm64) arch=arm64 ;;
	armv7*) arch=armv7 ;;
	armv6*) arch=armv6 ;;
	esac
	echo "$os/$arch"
}

sha256() {
	if command -v sha256sum >/dev/null 2>&1; then
		sha256sum <"$1" | cut -d ' ' -f 1
	elif command -v shasum >/dev/null 2>&1; then
		shasum -a 256 <"$1" | cut -d ' ' -f 1
	elif command -v openssl >/dev/null 2>&1; then
		openssl dgst -sha256 -r <"$1" | cut -d ' ' -f 1
	else
		die 'neither sha256sum, shasum nor openssl is here: the download could not be checked'
	fi
}

fetch() {
	if command -v curl >/dev/null 2>&1; then
		curl -fsSL ${VARAN_CURL_FLAGS:-} -o "$2" "$1"
	elif command -v wget >/dev/null 2>&1; then
		wget -q ${VARAN_WGET_FLAGS:-} -O "$2" "$1"
	else
		die 'neither curl nor wget is here'
	fi
}

as_root() {
	if [ "$(id -u)" = 0 ] || [ -n "${DESTDIR:-}" ]; then
		"$@"
	elif command -v sudo >/dev/null 2>&1; then
		sudo "$@"
	else
		die 'run this as root: there is no sudo here'
	fi
}

main() {
	on=$(platform)
	want=$(sum_for "$on")
	[ -n "$want" ] || die "core has no agent for $on; start it with --agent-binaries, or install the agent by hand"
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM
	program=${DESTDIR:-}/usr/local/bin/varan-agent
	if [ ! -f "$program" ] || [ "$(sha256 "$program")" != "$want" ]; then
		echo "fetching varan-agent $version for $on"
		program=$work/varan-agent
		fetch "$core/download/varan-agent/$on" "$program" || die "the agent could not be fetched from $core"
		[ "$(sha256 "$program")" = "$want" ] || die 'what was fetched is not what core announced; nothing was installed'
		chmod 755 "$program"
	fi
	key=${VARAN_ONBOARDING_KEY:-}
	if [ -z "$key" ] && [ -n "${VARAN_ONBOARDING_KEY_FILE:-}" ]; then
		key=$(cat "$VARAN_ONBOARDING_KEY_FILE")
	fi
	unset VARAN_ONBOARDING_KEY
	if [ -n "${DESTDIR:-}" ]; then
		set -- --root "$DESTDIR" "$@"
	fi
	printf '%s\n' "$key" | as_root "$program" install --core "$core" --onboarding-key-file - "$@"
}

main "$@"
