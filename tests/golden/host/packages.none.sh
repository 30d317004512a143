# Brings the packages of one stack to what it wants. Records, per machine:
#   owners/PACKAGE/STACK  who uses a package
#   added                 every package that llmdeploy brought, dependencies too (written before they come)
#   users                 "USER PACKAGE": system users that came with a package
#   coming                packages being installed whose services are still to be disabled
records=/var/lib/llmdeploy/shared/packages stack=support-chat-1a2b3c4d wanted=''
policy=/usr/sbin/policy-rc.d
mkdir -p "$records/owners"
exec 8>/run/llmdeploy/lock/packages
flock 8

put() { # atomic write of a record
    cat >"$records/.$1.new"
    sync "$records/.$1.new"
    mv -f "$records/.$1.new" "$records/$1"
}
touch "$records/added" "$records/users"

present() { # at least unpacked
    case $(dpkg-query -W -f='${db:Status-Abbrev}' "$1" 2>/dev/null) in
    ?[!nc]*) return 0 ;;
    esac
    return 1
}

installed() { [ "$(dpkg-query -W -f='${db:Status-Abbrev}' "$1" 2>/dev/null)" = 'ii ' ]; }

in_words() { # is $1 among the words $2
    case " $2 " in *" $1 "*) return 0 ;; esac
    return 1
}

apt() {
    env NEEDRESTART_SUSPEND=1 apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
        -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-confdef -o APT::Keep-Downloaded-Packages=false \
        "$@" </dev/null 8>&- 9>&-
}

# --- no service of a new package starts while this runs
release_services() {
    if [ -e "$policy.llmdeploy-saved" ]; then
        mv -f "$policy.llmdeploy-saved" "$policy"
    elif grep -qs llmdeploy "$policy"; then
        rm -f "$policy"
    fi
}
hold_services() {
    trap release_services EXIT
    trap 'exit 143' HUP INT TERM
    ! grep -qs llmdeploy "$policy" || return 0
    [ ! -e "$policy" ] || mv "$policy" "$policy.llmdeploy-saved"
    printf '#!/bin/sh\n# llmdeploy: while packages are installed\nexit 101\n' >"$policy.llmdeploy-new"
    chmod 0755 "$policy.llmdeploy-new"
    mv "$policy.llmdeploy-new" "$policy"
}
release_services

names_of_users() { cut -d : -f 1 /etc/passwd /etc/group | sort -u; }

forget_absent() {
    while read -r package; do
        ! present "$package" || echo "$package"
    done <"$records/added" | put added
}

install_missing() {
    missing=''
    for package in $wanted; do
        installed "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    known=yes
    for package in $missing; do
        apt-cache show --no-all-versions "$package" >/dev/null 2>&1 || known=no
    done
    if [ "$known" = no ] || [ -z "$(find /var/lib/apt/lists/partial -maxdepth 0 -mtime -1 2>/dev/null)" ]; then
        echo "::progress reading the package lists"
        apt update >&2
    fi

    # shellcheck disable=SC2086 # several names
    plan=$(apt -s install $missing) || {
        printf '%s\n' "$plan" >&2
        exit 1
    }
    changed=$(printf '%s\n' "$plan" | awk '$1 == "Remv" || ($1 == "Inst" && $3 ~ /^\[/) { print $2 }')
    if [ -n "$changed" ]; then
        # shellcheck disable=SC2086 # one line
        echo "installing$missing would change packages that were there before:" $changed >&2
        exit 73
    fi
    coming=$(printf '%s\n' "$plan" | awk '$1 == "Inst" { print $2 }')
    # shellcheck disable=SC2086 # one name per line
    { cat "$records/added"; printf '%s\n' $coming; } | sort -u | put added
    [ -e "$records/users_before" ] || names_of_users | put users_before
    touch "$records/coming"
    # shellcheck disable=SC2086 # one name per line
    { cat "$records/coming"; printf '%s\n' $coming; } | put coming

    echo "::progress installing$missing"
    hold_services
    # shellcheck disable=SC2086 # several names
    apt install $missing >&2 || {
        forget_absent
        exit 1
    }
}

disable_services() { # what a new package would start with the machine
    [ -e "$records/coming" ] || return 0
    ! command -v systemctl >/dev/null || while read -r package; do
        dpkg -L "$package" 2>/dev/null | sed -n 's|^\(/usr\)\?/lib/systemd/system/\([^/]*\.[a-z]*\)$|\2|p' | while read -r unit; do
            [ "$(systemctl is-enabled "$unit" 2>/dev/null)" != enabled ] || systemctl disable --quiet "$unit" >&2 8>&- 9>&-
        done
    done <"$records/coming"
    rm -f "$records/coming"
}

note_users() { # whose users came with the packages just installed
    [ -e "$records/users_before" ] || return 0
    for user in $(names_of_users | comm -13 "$records/users_before" -); do
        origin=$(cd /var/lib/dpkg/info && grep -lw -- "$user" ./*.postinst 2>/dev/null | sed 's|^\./||; s|\.postinst$||; s|:.*||' |
            while read -r package; do
                ! grep -qx -- "$package" "$records/added" || echo "$package"
            done | head -n 1)
        [ -z "$origin" ] || { cat "$records/users"; echo "$user $origin"; } | sort -u | put users
    done
    rm -f "$records/users_before"
}

own_wanted() {
    for package in $wanted; do
        mkdir -p "$records/owners/$package"
        : >"$records/owners/$package/$stack"
    done
    for record in "$records/owners"/*/"$stack"; do
        [ -e "$record" ] || continue
        package=$(basename "$(dirname "$record")")
        in_words "$package" "$wanted" || rm -f "$record"
    done
    find "$records/owners" -mindepth 1 -maxdepth 1 -type d -empty -delete
}

no_longer_needed() { # those that llmdeploy brought and nothing needs, a mere recommendation aside
    apt -s -o APT::AutoRemove::RecommendsImportant=false -o APT::AutoRemove::SuggestsImportant=false autoremove |
        awk '$1 == "Remv" { print $2 }' | sort | comm -12 "$records/added" -
}

remove_unowned() {
    while read -r package; do
        [ ! -d "$records/owners/$package" ] && installed "$package" && echo "$package"
    done <"$records/added" >"$records/.idle" || :
    if [ -s "$records/.idle" ]; then
        # Packages that a stack asked for are marked manual by apt; those without an owner become ordinary dependencies.
        xargs apt-mark auto <"$records/.idle" >/dev/null
    fi
    rm -f "$records/.idle"
    while unneeded=$(no_longer_needed) && [ -n "$unneeded" ]; do
        # shellcheck disable=SC2086 # several names
        foreign=$(apt -s purge $unneeded | awk '$1 == "Purg" || $1 == "Remv" { print $2 }' | sort | comm -13 "$records/added" -)
        [ -z "$foreign" ] || break
        # shellcheck disable=SC2086 # several names
        echo "::progress removing" $unneeded
        hold_services
        # shellcheck disable=SC2016,SC2086 # awk's own names; several names
        folders=$(dpkg -L $unneeded | sed -n '/^\/usr\/lib\/tmpfiles\.d\/./p' | xargs -r awk '$1 ~ /^d/ && $2 ~ "^/run/." { print $2 }')
        # shellcheck disable=SC2086 # several names
        apt purge $unneeded >&2
        for folder in $folders; do # no purge removes what tmpfiles.d made
            [ ! -d "$folder" ] || rmdir --ignore-fail-on-non-empty "$folder"
        done
    done
    forget_absent
}

remove_users() {
    while read -r user package; do
        # dpkg refuses all work while an override names a user that is not there.
        if present "$package" || dpkg-statoverride --list | grep -qw -- "$user"; then
            echo "$user $package"
            continue
        fi
        ! getent passwd "$user" >/dev/null || userdel "$user" 8>&- 9>&-
        ! getent group "$user" >/dev/null || groupdel "$user" 8>&- 9>&-
    done <"$records/users" >"$records/.users.left"
    mv -f "$records/.users.left" "$records/users"
}

# An install that was killed half-way leaves packages that dpkg must finish first.
if [ -s "$records/added" ] && [ -n "$(dpkg --audit)" ]; then
    echo "::progress finishing an interrupted installation"
    hold_services
    dpkg --configure -a --force-confold >&2 8>&- 9>&-
fi
install_missing
disable_services
note_users
own_wanted
remove_unowned
remove_users
release_services
[ -s "$records/added" ] || rm -f "$records/added"
[ -s "$records/users" ] || rm -f "$records/users"
rmdir --ignore-fail-on-non-empty "$records/owners"
[ -d "$records/owners" ] || rmdir --ignore-fail-on-non-empty "$records"
for package in ; do
    version=$(dpkg-query -W -f='${db:Status-Abbrev}${Version}' "$package" 2>/dev/null) || version=''
    case $version in 'ii '*) ;; *) version='' ;; esac
    printf 'version.%s\t%s\n' "$package" "${version#ii }"
    [ ! -e /var/lib/llmdeploy/shared/packages/owners/"$package"/support-chat-1a2b3c4d ] || printf 'owned.%s\tyes\n' "$package"
    ! grep -qsx -- "$package" /var/lib/llmdeploy/shared/packages/added || printf 'added.%s\tyes\n' "$package"
done
