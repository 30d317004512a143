[ "$(id -u)" = 0 ] || echo no-root
command -v apt-get >/dev/null || echo no-apt
