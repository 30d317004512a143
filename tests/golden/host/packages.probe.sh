for package in curl haproxy; do
    version=$(dpkg-query -W -f='${db:Status-Abbrev}${Version}' "$package" 2>/dev/null) || version=''
    case $version in 'ii '*) ;; *) version='' ;; esac
    printf 'version.%s\t%s\n' "$package" "${version#ii }"
    [ ! -e /var/lib/llmdeploy/shared/packages/owners/"$package"/support-chat-1a2b3c4d ] || printf 'owned.%s\tyes\n' "$package"
    ! grep -qsx -- "$package" /var/lib/llmdeploy/shared/packages/added || printf 'added.%s\tyes\n' "$package"
done
