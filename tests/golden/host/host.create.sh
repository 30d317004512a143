for folder in /var/lib/llmdeploy /run/llmdeploy /var/log/llmdeploy /var/lib/llmdeploy/shared; do
    mkdir -p "$folder"
    chmod 0755 "$folder"
done
