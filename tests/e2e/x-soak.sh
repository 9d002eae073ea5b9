# shellcheck disable=all
. "$(dirname "$0")/lib-ok.sh"
lab_begin
lab run a mkdir -p /var/lib/images/x; lab run b mkdir -p /var/lib/images/x
lab vm create s --disk raw:200M:20M --disk qcow2:209715712:20M --disk raw:100M --disk qcow2:64M:8M --mem 160 --ram 16M --write 6M --dirty 15M --discard ${CACHE:+--cache $CACHE}
lab vm wait s
RANDOM=${SEED:-1}
n=0
until [ $SECONDS -gt ${RUN:-240} ]; do
  n=$((n+1))
  opt=(--remove-source-disks --disks-to /var/lib/images$([ $((RANDOM%2)) = 0 ] || echo /x))
  case $((RANDOM%4)) in 0) opt+=(--compress off);; 1) opt+=(--compress 3);; esac
  case $((RANDOM%4)) in 0) opt+=(--format qcow2);; 1) opt+=(--format raw);; esac
  case $((RANDOM%3)) in 0) opt+=(--max-downtime 150ms);; 1) opt+=(--max-downtime 1s);; esac
  case $((RANDOM%4)) in 0) lab link rate 400mbit;; *) lab link rate none;; esac
  B=300; [[ "${opt[*]}" == *1s* ]] && B=1000
  [[ "${opt[*]}" == *150ms* ]] && B=150
  if [ $((n%2)) = 1 ]; then move s "${opt[@]}"; else move_back s "${opt[@]}"; fi
  if [ "$(< $ATTEMPT/status)" != 0 ]; then cat $ATTEMPT/stderr; tail -1 $ATTEMPT/json; fi
  expect_status 0
  judge --budget $B > $ATTEMPT/verdict || { cat $ATTEMPT/verdict; failed; }
  echo "$n $(result '[.pause_ms,.budget_ms,.elapsed_ms,.rounds,.sent]|tostring') $(grep I11 $ATTEMPT/verdict)"
done
complete s $([ $((n%2)) = 1 ] && echo b || echo a) a
