os_id='' os_version=''
while IFS='=' read -r name value; do
    value=${value#\"}
    value=${value%\"}
    case $name in
    ID) os_id=$value ;;
    VERSION_ID) os_version=$value ;;
    esac
done </etc/os-release
memory_kib=$(awk '/^MemTotal:/ { print $2 }' /proc/meminfo)
systemd=false fuse=false
[ ! -d /run/systemd/system ] || systemd=true
[ ! -c /dev/fuse ] || fuse=true
printf 'os_id\t%s\nos_version\t%s\n' "$os_id" "$os_version"
printf 'architecture\t%s\nkernel\t%s\n' "$(uname -m)" "$(uname -r)"
printf 'cpu_count\t%s\nmemory_bytes\t%s\n' "$(nproc --all)" "$((memory_kib * 1024))"
printf 'systemd\t%s\nfuse\t%s\n' "$systemd" "$fuse"
