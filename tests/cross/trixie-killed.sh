#!/usr/bin/env bash
# snmigrate is killed while the guest stands still, on two hosts of Debian 13, whose QEMU may
# have made its nodes inactive by then: the guard takes it back.
# timeout: 1500
# shellcheck source=tests/e2e/lib-fault.sh
. "$(dirname "$0")/../e2e/lib-fault.sh"
# shellcheck source=tests/cross/cross.bash
. "$(dirname "$0")/cross.bash"

HOME_MOVE+=(--max-downtime "${BUDGET}ms") # nothing is tested on the way back
userlands trixie trixie
fault_begin --disk raw:64M:24M --disk qcow2:64M:8M
versions

cell "kill -9 after the suspend" switch.suspended:kill-self - killed source
cell "kill -9 before the release" switch.release:kill-self - killed source
fault_end
