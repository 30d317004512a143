# Folders, marker and system user of one stack.
stack=support-chat lineage=1a2b3c4d5e6f7a8b9c0d1e2f3a4b5c6d user=llmd-1a2b3c4d
lib=/var/lib/llmdeploy/support-chat-1a2b3c4d run=/run/llmdeploy/support-chat-1a2b3c4d log=/var/log/llmdeploy/support-chat-1a2b3c4d
# Another lineage under the same stack name, or a user that is not ours, is never touched.
for folder in /var/lib/llmdeploy/"$stack"-????????; do
    if [ ! -d "$folder" ] || grep -qsx "lineage=$lineage" "$folder/.stack"; then
        continue
    fi
    # A folder without a marker is either ours, just being made, or that of a stack with a longer name.
    if grep -qsx "name=$stack" "$folder/.stack"; then
        echo "folder $folder" >&2
        exit 73
    fi
done
comment=$(getent passwd "$user" | cut -d : -f 5)
if [ -n "$(getent passwd "$user")" ] && [ "$comment" != "llmdeploy $lineage" ]; then
    echo "user $user" >&2
    exit 73
fi

for folder in /var/lib/llmdeploy /run/llmdeploy /var/log/llmdeploy; do
    mkdir -p "$folder"
    chmod 0755 "$folder"
done
if ! getent passwd "$user" >/dev/null; then
    useradd --uid 998 --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin \
        --comment "llmdeploy $lineage" "$user" 9>&-
fi
mkdir -p "$lib" "$run" "$log"
chmod 0711 "$lib" "$run"
chmod 0700 "$log"
printf 'name=%s\nlineage=%s\n' "$stack" "$lineage" >"$lib/.stack.new"
sync "$lib/.stack.new"
mv -f "$lib/.stack.new" "$lib/.stack"
sync "$lib"
printf 'uid\t%s\n' "$(id -u "$user")"
