# shellcheck disable=all
. "$(dirname "$0")/lib-ok.sh"
lab_begin
lab run a mkdir -p /var/lib/images/x; lab run b mkdir -p /var/lib/images/x
lab vm create s --disk raw:200M:20M --disk qcow2:209715712:20M --disk raw:100M --disk qcow2:64M:8M --mem 160 --ram 16M --write 6M --dirty 15M --discard ${CACHE:+--cache $CACHE}
lab vm wait s
RANDOM=${SEED:-1}
n=0 at=a last=none
OUT=/tmp/soak.$E2E_NAME.${SEED:-1}; rm -rf $OUT; mkdir $OUT
until [ $SECONDS -gt ${RUN:-240} ]; do
  n=$((n+1))
  opt=(-vv --remove-source-disks --disks-to /var/lib/images$([ $((RANDOM%2)) = 0 ] || echo /x))
  case $((RANDOM%4)) in 0) opt+=(--compress off);; 1) opt+=(--compress 3);; esac
  case $((RANDOM%4)) in 0) opt+=(--format qcow2);; 1) opt+=(--format raw);; esac
  case $((RANDOM%3)) in 0) opt+=(--max-downtime 150ms);; 1) opt+=(--max-downtime 1s);; esac
  case $((RANDOM%4)) in 0) lab link rate 400mbit;; *) lab link rate none;; esac
  B=300; [[ "${opt[*]}" == *1s* ]] && B=1000
  [[ "${opt[*]}" == *150ms* ]] && B=150
  if [ $at = a ]; then attempt s snmigrate --json "${opt[@]}" s root@hostb; else attempt_back s snmigrate --json "${opt[@]}" s root@hosta; fi
  st=$(< $ATTEMPT/status)
  cp -r $ATTEMPT $OUT/$n
  if [ $st = 137 ]; then rm $ATTEMPT/status; mv $ATTEMPT/json $ATTEMPT/xjson; fi
  judge --budget $B > $ATTEMPT/verdict || grep FAIL $ATTEMPT/verdict
  cp $ATTEMPT/verdict $OUT/$n/
  if [ $st = 0 ]; then at=$([ $at = a ] && echo b || echo a)
  echo "$n $(result '[.pause_ms,.budget_ms,.elapsed_ms,.rounds,.sent]|tostring') $(grep I11 $ATTEMPT/verdict)"; else echo "$n status $st: $(grep 'error:\|guard' $ATTEMPT/stderr | head -3)"; fi
done
complete s $at a
