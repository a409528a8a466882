#!/bin/sh
# Plans for the directory VARAN_DIR: against a core when VARAN_CORE names one, else against
# nothing. The plan goes to the log and into the summary of the job.
set -eu

varan=$(sh "${GITHUB_ACTION_PATH:?}/../setup.sh")
out="${RUNNER_TEMP:-/tmp}/varan-plan.txt"

set -- "--dir=${VARAN_DIR:-.}"
if [ -n "${VARAN_CORE:-}" ]; then
	[ -z "${VARAN_SYNC:-}" ] || set -- "$@" "--sync=$VARAN_SYNC"
else
	unset VARAN_CORE VARAN_API_KEY
fi

code=0
"$varan" plan --detailed-exitcode "$@" >"$out" 2>&1 || code=$?
cat "$out"
if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then
	{
		printf '### varan plan\n\n'
		# Indented lines are shown as they are, whatever is in them.
		sed 's/^/    /' "$out"
		printf '\n'
	} >>"$GITHUB_STEP_SUMMARY"
fi
changes=false
[ "$code" -ne 2 ] || changes=true
[ -z "${GITHUB_OUTPUT:-}" ] || printf 'exitcode=%s\nchanges=%s\n' "$code" "$changes" >>"$GITHUB_OUTPUT"
if [ "$code" -eq 2 ] && [ "${VARAN_DETAILED_EXITCODE:-false}" != true ]; then
	code=0
fi
exit "$code"
