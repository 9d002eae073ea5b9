# shellcheck shell=bash
# virt.bash - what the tests of src/virt source: the lab, and virt-live on its host a.
. "$(dirname "$0")/../lab/e2e.sh"

live() { lab run a "$SNM_BUILD/tools/virt-live" "$@" || failed "virt-live $*"; }
