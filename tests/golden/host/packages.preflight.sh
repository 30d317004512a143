missing=''
for package in curl haproxy; do
    [ "$(dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null)" = 'ii ' ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
# Lists that are old or not there are read by apply itself; before that nothing can be told from them.
[ -n "$(find /var/lib/apt/lists/partial -maxdepth 0 -mtime -1 2>/dev/null)" ] || exit 0
for package in $missing; do
    apt-cache show --no-all-versions "$package" >/dev/null 2>&1 || printf 'unknown\t%s\n' "$package"
done
# shellcheck disable=SC2086 # several names
apt-get -q -y -s --no-install-recommends install $missing 2>/dev/null |
    awk '$1 == "Remv" || ($1 == "Inst" && $3 ~ /^\[/) { print "changed\t" $2 }'
