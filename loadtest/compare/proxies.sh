# Other people's servers, for table.sh: they answer themselves, or pass each update on to a backend. To be
# sourced after subjects.sh.
#
# Subjects:
#
#   haproxy, caddy, h2o
#                  a fixed 200, as nginx's `return 200`
#   forward        ringhook with `written` and --output http://..: the sender has its answer before the
#                  backend has the update
#   proxy-nginx    nginx with a pool of kept connections to the backend
#   proxy-haproxy  HAProxy with http-reuse always
#   proxy-caddy    Caddy's reverse_proxy with its own pool
#   proxy-h2o      h2o's proxy.reverse with kept connections
#
# All terminate TLS with the certificate of subjects.sh, and have one CPU for all of their threads. The
# backend is beside the generator, on the other CPU: nginx's `return 200` where CPU time is measured, and
# delaying_backend.py where the sender's answers are.
# shellcheck shell=bash

backend_port=18448

# As someone who knows it would set it up: connections to the backend are kept, nothing is logged.
nginx_proxy_conf() {
    local upstream="upstream bot { server 127.0.0.1:$backend_port; keepalive 4096; keepalive_requests 1000000000; }"
    local pass='proxy_pass http://bot; proxy_http_version 1.1; proxy_set_header Connection "";'
    nginx_conf | sed "s,^  server {,  $upstream\n&,;s,return 200;,$pass,"
}

# haproxy_conf ACTION
haproxy_conf() {
    cat "$cert" "$key" >"$dir/haproxy.pem"
    cat <<CONF
global
  nbthread 1
  maxconn 4096
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  option http-keep-alive
  http-reuse always
  timeout connect 10s
  timeout client 75s
  timeout server 75s
  timeout http-keep-alive 75s
frontend telegram
  bind 127.0.0.1:$port ssl crt $dir/haproxy.pem backlog 4096
  $1
backend bot
  server bot 127.0.0.1:$backend_port
CONF
}

# caddy_conf ACTION
caddy_conf() {
    cat <<CONF
{
  admin off
  auto_https off
  log {
    output discard
  }
}
https://127.0.0.1:$port {
  tls $cert $key
  $1
}
CONF
}

# h2o_conf ACTION: of a path, in YAML.
h2o_conf() {
    cat <<CONF
user: $(id -un)
num-threads: 1
max-connections: 16384
http1-request-timeout: 75
listen:
  host: 127.0.0.1
  port: $port
  ssl:
    certificate-file: $cert
    key-file: $key
    minimum-version: TLSv1.2
    ocsp-update-interval: 0
proxy.timeout.keepalive: 300000
proxy.preserve-host: ON
error-log: /dev/stderr
pid-file: $dir/h2o.pid
hosts:
  default:
    paths:
      "/":
        $1
CONF
}

backend_conf() {
    cat <<CONF
daemon off; pid $dir/backend.pid; worker_processes 1; error_log stderr error;
worker_rlimit_nofile $(ulimit -Hn);
events { worker_connections 16384; multi_accept on; }
http {
  access_log off; server_tokens off; tcp_nodelay on;
  keepalive_requests 1000000000; keepalive_timeout 300s;
  client_header_buffer_size 4k; client_body_buffer_size 64k; client_max_body_size 2m;
  client_body_temp_path $dir/nginx; proxy_temp_path $dir/nginx; fastcgi_temp_path $dir/nginx;
  uwsgi_temp_path $dir/nginx; scgi_temp_path $dir/nginx;
  server {
    listen 127.0.0.1:$backend_port backlog=4096;
    location = /status { stub_status; }
    location / { return 200; }
  }
}
CONF
}

# start_backend DELAY: in seconds; none for nginx, which also counts what it gets.
start_backend() {
    mkdir -p "$dir/nginx"
    local command=("$python" "$here/delaying_backend.py" "$backend_port" "${1:-}")
    if [[ -z ${1:-} ]]; then
        backend_conf >"$dir/backend.conf"
        command=(nginx -p "$dir" -c "$dir/backend.conf")
    fi
    taskset -c "$generator_cpu" "${command[@]}" >"$dir/backend.log" 2>&1 &
    backend=$!
    if ! measure listening "$backend_port"; then
        cat "$dir/backend.log" >&2
        exit 1
    fi
}

stop_backend() {
    kill "$backend" 2>/dev/null || true
    wait "$backend" 2>/dev/null || true
    backend=
}

# start_proxy SUBJECT: what `start` does for those above.
start_proxy() {
    case $1 in
    forward)
        rm -rf "$dir/data/journal"
        # As many requests at once as the others may have.
        cat >"$dir/forward.toml" <<CONF
[[output]]
name = "bot"
to = "http://127.0.0.1:$backend_port/webhook"
connections = 4096
CONF
        # A stop must not wait for what a slow backend has not got: it stays in the journal.
        serve "$bin/ringhook" serve --config "$dir/forward.toml" --listen "127.0.0.1:$port" \
            --data-dir "$dir/data" --ack written --drain-timeout 1s
        ;;
    proxy-nginx)
        mkdir -p "$dir/nginx"
        nginx_proxy_conf >"$dir/nginx.conf"
        serve nginx -p "$dir" -c "$dir/nginx.conf"
        ;;
    haproxy | proxy-haproxy)
        if [[ $1 == haproxy ]]; then
            haproxy_conf 'http-request return status 200'
        else
            haproxy_conf 'default_backend bot'
        fi >"$dir/haproxy.cfg"
        serve haproxy -db -f "$dir/haproxy.cfg"
        ;;
    caddy | proxy-caddy)
        local pool='transport http {
            keepalive_idle_conns 4096
            keepalive_idle_conns_per_host 4096
        }'
        if [[ $1 == caddy ]]; then
            caddy_conf 'respond 200'
        else
            caddy_conf "reverse_proxy 127.0.0.1:$backend_port {
        $pool
        }"
        fi >"$dir/Caddyfile"
        XDG_DATA_HOME=$dir/caddy XDG_CONFIG_HOME=$dir/caddy \
            serve caddy run --adapter caddyfile --config "$dir/Caddyfile"
        ;;
    h2o | proxy-h2o)
        if [[ $1 == h2o ]]; then
            h2o_conf 'mruby.handler: "Proc.new { |env| [200, {}, []] }"'
        else
            h2o_conf "proxy.reverse.url: \"http://127.0.0.1:$backend_port/\""
        fi >"$dir/h2o.conf"
        serve h2o -c "$dir/h2o.conf"
        ;;
    esac
}

# missing_proxy SUBJECT: prints why it cannot take part, or nothing.
missing_proxy() {
    local program=${1#proxy-}
    if [[ $1 != forward ]] && ! command -v "$program" >/dev/null; then
        echo "no $program in PATH"
    fi
}

version_proxy() {
    case $1 in
    forward) "$bin/ringhook" --version ;;
    proxy-nginx) version nginx ;;
    haproxy | proxy-haproxy) haproxy -v | sed -n '1s/^HAProxy version \([0-9.]*\).*/HAProxy \1/p' ;;
    h2o | proxy-h2o) h2o --version | sed -n '1s/ version//p' ;;
    caddy | proxy-caddy) echo "Caddy $(caddy version | cut -d' ' -f1)" ;;
    esac
}
