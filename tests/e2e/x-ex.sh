# shellcheck disable=all
. $(dirname "$0")/lib-ok.sh
lab_begin --rate 50mbit
lab vm create wild --disk raw:64M:1M --mem 128 --ram 32M --dirty 40M --write 2M
lab vm wait wild
echo "== does not converge"
time move wild --compress off --disks-to /var/lib/images
cat $ATTEMPT/stderr | tail -5
expect_status 8
judge
echo "== timeout"
time move wild --timeout 4s --disks-to /var/lib/images
cat $ATTEMPT/stderr | tail -5
echo "$(< $ATTEMPT/status)"
judge
lab link rate none
move wild --disks-to /var/lib/images --max-downtime 2s
moved --budget 2000
