#!/usr/bin/env bash
# Whose disk a file is: under its own name, by another link or path, or as a volume.
# timeout: 120
. "$(dirname "$0")/virt.bash"

IMAGES=/var/lib/images
NOBODY=00000000-0000-0000-0000-000000000000

# define NAME SED-COMMAND: a domain as m1, with another disk
define() {
    lab run a virsh -q dumpxml --inactive m1 |
        sed -e "s|<name>.*</name>|<name>$1</name>|" -e '/<uuid>/d' -e "$2" > "$WORK/domain.xml"
    grep -q "$3" "$WORK/domain.xml" || failed "the disk of $1 is not as wanted"
    lab run a virsh -q define "$WORK/domain.xml"
}

# owner PATH NAME [BUT-UUID]
owner() {
    local name
    name=$(live disk-user "$1" "${3:-$NOBODY}")
    [ "$name" = "$2" ] || failed "$1 is $name, not $2"
    echo "ok   $1 is $name"
}

lab_begin ${LAB_UP:-}
lab vm create m1 --disk raw:8M --no-start
mkdir "$LAB_DIR/a/images"/{dir,pool}
touch "$LAB_DIR/a/images"/{dir/s1.raw,pool/v1.raw,none.raw}
ln "$LAB_DIR/a/images/m1-vda.raw" "$LAB_DIR/a/images/hard.raw"
ln -s $IMAGES/dir "$LAB_DIR/a/images/link"
lab run a virsh -q pool-define-as p1 dir --target $IMAGES/pool
define s1 "s|$IMAGES/m1-vda.raw|$IMAGES/link/s1.raw|" $IMAGES/link/s1.raw
define v1 "s|<disk type='file'|<disk type='volume'|
    s|<source file=.*/>|<source pool='p1' volume='v1.raw'/>|" "pool='p1' volume='v1.raw'"

owner $IMAGES/m1-vda.raw m1
owner $IMAGES/m1-vda.raw "nobody's" "$(lab run a virsh -q domuuid m1 | tr -d '\n')"
owner $IMAGES/hard.raw m1
owner $IMAGES/dir/s1.raw s1
owner $IMAGES/pool/v1.raw v1
lab run a virsh -q pool-start p1
owner $IMAGES/pool/v1.raw v1
owner $IMAGES/none.raw "nobody's"
owner $IMAGES/not-there.raw "nobody's"
