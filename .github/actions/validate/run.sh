#!/bin/sh
# Validates what VARAN_PATHS names, one path a line: annotations on standard output, SARIF in
# a file, and a summary of the job. Ends as varan does.
set -eu

varan=$(sh "${GITHUB_ACTION_PATH:?}/../setup.sh")
sarif=${VARAN_SARIF:-"${RUNNER_TEMP:-/tmp}/varan.sarif"}

set --
[ "${VARAN_STRICT:-false}" != true ] || set -- "$@" --strict
[ "${VARAN_LENIENT:-false}" != true ] || set -- "$@" --lenient
if [ -n "${VARAN_CORE:-}" ]; then
	set -- "$@" --core
	[ -z "${VARAN_SYNC:-}" ] || set -- "$@" "--sync=$VARAN_SYNC"
fi
set -- "$@" --
while IFS= read -r line; do
	[ -z "$line" ] || set -- "$@" "$line"
done <<END
${VARAN_PATHS:-.}
END

status=0
"$varan" validate --format sarif "$@" >"$sarif" 2>/dev/null || status=$?
code=0
"$varan" validate --format github "$@" || code=$?
if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then
	{
		printf '### varan validate\n\n'
		# Indented lines are shown as they are, whatever is in them.
		{ "$varan" validate "$@" 2>&1 || true; } | sed 's/^/    /'
		printf '\n'
	} >>"$GITHUB_STEP_SUMMARY"
fi
if [ -n "${GITHUB_OUTPUT:-}" ]; then
	valid=false
	[ "$code" -ne 0 ] || valid=true
	case $sarif in
	*'
'*) exit 64 ;;
	esac
	printf 'valid=%s\nsarif-file=%s\n' "$valid" "$sarif" >>"$GITHUB_OUTPUT"
fi
[ "$code" -ne 0 ] || code=$status
exit "$code"
