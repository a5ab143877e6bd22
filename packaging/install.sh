#!/usr/bin/env bash
# Install hyperline on a Jetson from these sources, with the CUDA and TensorRT parts built against JetPack's own headers.
#
#     packaging/install.sh --check          look, and change nothing
#     sudo packaging/install.sh             look, say what it would do, ask, do it
#     sudo packaging/install.sh --undo      take all of it back
#
# All is looked at before anything is changed. Whatever is changed is written down first, so that a step that fails, a
# Ctrl-C or a power cut leaves nothing behind: the first two are taken back at once, the last by the next call.
# docs/install.md is the guide.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: packaging/install.sh [OPTIONS]

  --check               look at the machine and say what would be done; change nothing
  --undo                take back what an earlier call did; flown strips and edited settings stay
  --yes                 do not ask
  --prefix DIR          where to install to                          [/opt/hyperline]
  --wheels DIR          take Python packages from this folder alone: no network
  --gpu N               compute capability to compile for: 87 Orin, 110 Thor       [asked of the board]
  --camera INTERFACE    prepare this network interface for a GigE Vision camera: jumbo frames, receive buffer
  --power-mode N        choose power mode N (sudo nvpmodel -q lists them)
  --clocks              hold all clocks at their highest until the next start (jetson_clocks)
  --root DIR            for tests: DIR stands for /, and DIR/commands for the system's commands
  --help
TEXT
}

readonly RECEIVE_BYTES=16777216 # of a socket: 32 frames of a camera, as hyperline doctor wants it
readonly JUMBO_BYTES=9000
readonly NEEDED_DISK_KB=$((3 << 20))
readonly NEEDED_MEMORY_KB=$((2 << 20)) # nvcc takes most of it
readonly JOB_MEMORY_KB=$((3 << 19))
readonly LIBRARIES="libhyperline_ops.so libhyperline_ort.so libhyperline_cuda.so libhyperline_trt.so"

mode=install prefix=/opt/hyperline yes="" wheels="" gpu="" camera="" power_mode="" clocks="" ROOT=""
while [ $# -gt 0 ]; do
    case $1 in
    --check) mode=check ;;
    --undo) mode=undo ;;
    --yes) yes=1 ;;
    --clocks) clocks=1 ;;
    --help)
        usage
        exit 0
        ;;
    --prefix | --wheels | --gpu | --camera | --power-mode | --root)
        if [ $# -lt 2 ]; then
            echo "$1 needs a value; --help lists the options" >&2
            exit 2
        fi
        case $1 in
        --prefix) prefix=$2 ;;
        --wheels) wheels=$2 ;;
        --gpu) gpu=$2 ;;
        --camera) camera=$2 ;;
        --power-mode) power_mode=$2 ;;
        --root) ROOT=$2 ;;
        esac
        shift
        ;;
    *)
        echo "no option is called $1; --help lists them" >&2
        exit 2
        ;;
    esac
    shift
done
case $prefix in
/*[!/]) ;;
*)
    echo "--prefix must be an absolute path, and not / itself: $prefix" >&2
    exit 2
    ;;
esac
if [ -n "$(printf %s "$prefix$camera$power_mode$gpu" | tr -d 'A-Za-z0-9/._-')" ]; then
    echo "--prefix, --camera, --power-mode and --gpu take letters, digits, and / . _ - alone" >&2
    exit 2
fi

SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly SOURCE
readonly RECORD=$ROOT/var/lib/hyperline-install MANIFEST=$ROOT/var/lib/hyperline-install/manifest
readonly TREE=$ROOT$prefix
readonly COMMAND=$ROOT/usr/local/bin/hyperline
readonly UNIT=$ROOT/etc/systemd/system/hyperline@.service
readonly SYSCTL=$ROOT/etc/sysctl.d/60-hyperline.conf
readonly UDEV=$ROOT/etc/udev/rules.d/60-hyperline.rules

# A command of the running system.
run() {
    if [ -n "$ROOT" ]; then
        "$ROOT/commands/$1" "${@:2}"
    else
        "$@"
    fi
}

has() {
    if [ -n "$ROOT" ]; then
        [ -x "$ROOT/commands/$1" ]
    else
        command -v "$1" >/dev/null
    fi
}

# ---------------------------------------------------------------------------------------------------------------- look

faults=0
found() { printf '  ok      %-12s %s\n' "$1" "$2"; }
advise() { printf '  advice  %-12s %s\n' "$1" "$2"; }
fault() {
    printf '  FAULT   %-12s %s\n' "$1" "$2"
    faults=$((faults + 1))
}

# at_least 10.14 10.3: whether a version is another or newer.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

look() {
    echo "Looking at this machine:"
    look_at_user
    look_at_jetpack
    look_at_gpu
    look_at_cuda
    look_at_tensorrt
    look_at_python
    look_at_compiler
    look_at_sources
    look_at_room
    look_at_places
    look_at_camera
    look_at_power
}

look_at_user() {
    if [ "$(run id -u)" = 0 ]; then
        found user root
    elif [ "$mode" = check ]; then
        advise user "not root: sudo installs"
    else
        fault user "not root; call it with sudo"
    fi
}

look_at_jetpack() {
    local machine release
    machine=$(run uname -m)
    if [ "$machine" != aarch64 ]; then
        fault machine "$machine: JetPack is 64-bit ARM; elsewhere take the wheel, docs/install.md"
    else
        found machine "$machine"
    fi
    l4t=
    if [ -r "$ROOT/etc/nv_tegra_release" ]; then
        release=$(sed -n 's/^# R\([0-9]*\) (release), REVISION: \([0-9.]*\).*/\1.\2/p' "$ROOT/etc/nv_tegra_release" | head -n 1)
        l4t=$release
    fi
    if [ -z "$l4t" ]; then
        fault JetPack "no /etc/nv_tegra_release that says one: this is no Jetson; take the wheel, docs/install.md"
    elif ! at_least "$l4t" 36.4; then
        fault JetPack "L4T $l4t: TensorRT there is older than 10.3; JetPack 6.2 (L4T 36.4.3) or newer is needed"
    else
        found JetPack "L4T $l4t"
    fi
}

look_at_gpu() {
    local compatible
    if [ -z "$gpu" ]; then
        compatible=$(tr '\0' ' ' 2>/dev/null <"$ROOT/proc/device-tree/compatible" || true)
        case $compatible in
        *nvidia,tegra234*) gpu=87 ;;
        *nvidia,tegra264*) gpu=110 ;;
        esac
    fi
    case $gpu in
    '') fault GPU "the board does not say which it has: --gpu 87 for an Orin, 110 for a Thor" ;;
    *[!0-9]*) fault GPU "--gpu takes a number, such as 87, not $gpu" ;;
    *) found GPU "compute capability ${gpu%?}.${gpu#"${gpu%?}"}" ;;
    esac
}

look_at_cuda() {
    local least=12.6
    cuda=$(sed -n '/"cuda"/,/}/s/.*"version" *: *"\([0-9.]*\)".*/\1/p' "$ROOT/usr/local/cuda/version.json" 2>/dev/null | head -n 1 || true)
    [ "$gpu" != 110 ] || least=13.0
    if [ ! -x "$ROOT/usr/local/cuda/bin/nvcc" ]; then
        fault CUDA "no /usr/local/cuda/bin/nvcc: sudo apt install nvidia-jetpack"
    elif [ -z "$cuda" ]; then
        fault CUDA "/usr/local/cuda/version.json does not say its version: sudo apt install --reinstall nvidia-jetpack"
    elif ! at_least "$cuda" "$least"; then
        fault CUDA "$cuda is older than $least, which this GPU and JetPack need"
    else
        found CUDA "$cuda"
    fi
}

look_at_tensorrt() {
    local folder=$ROOT/usr/include/aarch64-linux-gnu version
    if [ ! -r "$folder/NvInferVersion.h" ] || [ ! -r "$folder/NvInferRuntimePlugin.h" ]; then
        fault TensorRT "no headers in ${folder#"$ROOT"}: sudo apt install libnvinfer-dev"
        return
    fi
    # 10.13 and later say the number in another macro, which NV_TENSORRT_MAJOR then names.
    version=$(sed -n 's/^#define \(NV_TENSORRT_MAJOR\|TRT_MAJOR_ENTERPRISE\) \([0-9]\{1,\}\).*/\2/p' "$folder/NvInferVersion.h" | head -n 1)
    version=$version.$(sed -n 's/^#define \(NV_TENSORRT_MINOR\|TRT_MINOR_ENTERPRISE\) \([0-9]\{1,\}\).*/\2/p' "$folder/NvInferVersion.h" | head -n 1)
    if ! at_least "$version" 10.3; then
        fault TensorRT "headers of $version; 10.3 or newer is needed, of JetPack 6.2"
    else
        found TensorRT "headers of $version"
    fi
    if ! run python3 -c 'import tensorrt' 2>/dev/null; then
        fault TensorRT "no Python package tensorrt: sudo apt install python3-libnvinfer"
    fi
}

look_at_python() {
    local version
    version=$(run python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true)
    if [ -z "$version" ]; then
        fault Python "no python3: sudo apt install python3 python3-venv"
    elif ! at_least "$version" 3.10; then
        fault Python "$version; 3.10 or newer is needed"
    elif ! run python3 -c 'import venv, ensurepip' 2>/dev/null; then
        fault Python "$version without venv: sudo apt install python3-venv"
    else
        found Python "$version"
    fi
}

look_at_compiler() {
    local version
    version=$(run g++ -dumpversion 2>/dev/null || true)
    if [ -z "$version" ]; then
        fault compiler "no g++: sudo apt install g++"
    elif ! at_least "$version" 11; then
        fault compiler "g++ $version; 11 or newer is needed"
    else
        found compiler "g++ $version"
    fi
}

look_at_sources() {
    local file missing=
    for file in pyproject.toml CMakeLists.txt constraints.txt plugins/cuda plugins/tensorrt tests/bundle/tiny.hlb; do
        [ -e "$SOURCE/$file" ] || missing="$missing $file"
    done
    if [ -n "$missing" ]; then
        fault sources "$SOURCE lacks$missing: unpack the whole source archive"
    else
        found sources "$SOURCE"
    fi
    headers=
    for file in "$SOURCE/build/onnxruntime/usr/include/onnxruntime" "$ROOT/usr/include/onnxruntime"; do
        [ -n "$headers" ] || [ ! -e "$file/onnxruntime_cxx_api.h" ] || headers=$file
    done
    if [ -z "$headers" ]; then
        fault headers "no ONNX Runtime headers, which JetPack does not have: copy the folder build/onnxruntime here from a
                       Debian machine where tools/fetch_onnxruntime_headers has run"
    else
        found headers "$headers"
    fi
    if [ -n "$wheels" ] && [ ! -d "$wheels" ]; then
        fault packages "--wheels $wheels is no folder"
    fi
}

# The folder that is there, of a path that may not be.
nearest() {
    local path=$1
    while [ ! -d "$path" ]; do path=$(dirname "$path"); done
    echo "$path"
}

look_at_room() {
    local disk memory
    disk=$(run df -Pk "$(nearest "$TREE")" | awk 'NR == 2 { print $4 }')
    if [ "$disk" -lt "$NEEDED_DISK_KB" ]; then
        fault disk "$((disk >> 10)) MiB free at $prefix; $((NEEDED_DISK_KB >> 10)) are needed"
    else
        found disk "$((disk >> 10)) MiB free at $prefix"
    fi
    memory=$(awk '$1 == "MemAvailable:" { print $2 }' "$ROOT/proc/meminfo")
    if [ "$memory" -lt "$NEEDED_MEMORY_KB" ]; then
        fault memory "$((memory >> 10)) MiB free; nvcc needs $((NEEDED_MEMORY_KB >> 10)): stop the desktop, or add swap"
    else
        found memory "$((memory >> 10)) MiB free"
    fi
    jobs=$((memory / JOB_MEMORY_KB))
    [ "$jobs" -ge 1 ] || jobs=1
    [ "$jobs" -le "$(run nproc)" ] || jobs=$(run nproc)
}

look_at_places() {
    local file
    if [ -e "$MANIFEST" ]; then
        if grep -q '^complete' "$MANIFEST"; then
            fault installed "hyperline is installed already: sudo packaging/install.sh --undo first; strips and settings stay"
        else
            advise installed "an installation that broke off is taken back first"
        fi
        return
    fi
    for file in "$TREE" "$COMMAND" "$UNIT" "$SYSCTL" "$UDEV"; do
        if [ -e "$file" ] || [ -L "$file" ]; then
            fault places "${file#"$ROOT"} is there, and not from here: move it away"
        fi
    done
}

look_at_camera() {
    receive=$(cat "$ROOT/proc/sys/net/core/rmem_max" 2>/dev/null || echo 0)
    [ -n "$camera" ] || return 0
    if [ ! -r "$ROOT/sys/class/net/$camera/mtu" ]; then
        fault camera "no network interface $camera: ip link lists them"
        return
    fi
    found camera "$camera, packets of $(cat "$ROOT/sys/class/net/$camera/mtu") bytes, sockets of $((receive >> 10)) KiB"
    advise camera "where NetworkManager has $camera: nmcli connection modify NAME 802-3-ethernet.mtu $JUMBO_BYTES"
}

look_at_power() {
    local held
    if ! has nvpmodel; then
        [ -z "$power_mode" ] || fault power "no nvpmodel here: leave --power-mode out"
    else
        held=$(run nvpmodel -q 2>/dev/null | sed -n 's/^NV Power Mode: *//p' | head -n 1 || true)
        if [ -z "$power_mode" ]; then
            advise power "mode ${held:-unknown}; sudo nvpmodel -q lists others. Measure in the one that flies (--power-mode N)"
        elif [ -z "$(run nvpmodel -q 2>/dev/null | grep -E '^[0-9]+$' || true)" ]; then
            fault power "nvpmodel -q does not say which mode is on, so that it could not be taken back"
        else
            found power "mode ${held:-unknown} now"
        fi
    fi
    if has jetson_clocks; then
        [ -n "$clocks" ] || advise clocks "the first blocks after a pause are slow unless clocks are held: sudo jetson_clocks (--clocks)"
    else
        [ -z "$clocks" ] || fault clocks "no jetson_clocks here: leave --clocks out"
    fi
}

# ------------------------------------------------------------------------------------------------------------ the record

# note ACTION PLACE EXTRA: write down what will be done, before it is. No field is empty: read takes two tabs for one.
note() {
    printf '%s\t%s\t%s\n' "$1" "${2:--}" "${3:--}" >>"$MANIFEST"
    run sync "$MANIFEST"
}

digest() { sha256sum "$1" | cut -d ' ' -f 1; }

# put PLACE < CONTENT: a file that is there whole or not at all.
put() {
    local place=$1 new=$1.hyperline-new
    folder "$(dirname "$place")"
    note part "$new"
    cat >"$new"
    chmod 644 "$new"
    note file "$place" "$(digest "$new")"
    mv "$new" "$place"
}

# folder PLACE: it, and those above it that are missing.
folder() {
    [ -d "$1" ] && return
    folder "$(dirname "$1")"
    note folder "$1"
    mkdir "$1"
}

take_back() {
    local action place extra
    [ -e "$MANIFEST" ] || return 0
    # Backwards; each may have been done or not.
    while IFS=$'\t' read -r action place extra; do
        case $action in
        part) rm -f "$place" ;;
        file)
            if [ -e "$place" ] && [ "$(digest "$place")" != "$extra" ]; then
                echo "  kept ${place#"$ROOT"}: it was edited since"
            else
                rm -f "$place"
            fi
            ;;
        link) if [ "$(readlink "$place" || true)" = "$extra" ]; then rm -f "$place"; fi ;;
        tree) rm -rf "$place" ;;
        folder)
            if [ -d "$place" ] && ! rmdir "$place" 2>/dev/null; then
                echo "  kept ${place#"$ROOT"}: it holds what is yours"
            fi
            ;;
        user) if run id "$place" >/dev/null 2>&1; then run userdel "$place" || echo "  kept user $place"; fi ;;
        sysctl) run sysctl -q -w "$place=$extra" || echo "  kept $place: the kernel does not take $extra" ;;
        mtu) run ip link set dev "$place" mtu "$extra" || echo "  kept the packet size of $place" ;;
        power) run nvpmodel -m "$extra" || echo "  kept the power mode: sudo nvpmodel -m $extra" ;;
        clocks)
            if [ -s "$place" ]; then run jetson_clocks --restore "$place" || echo "  kept the clocks: start the machine anew"; fi
            rm -f "$place"
            ;;
        reload) run systemctl daemon-reload || true ;;
        rules) run udevadm control --reload || true ;;
        complete) ;;
        *) echo "  ${MANIFEST#"$ROOT"} says '$action', which this version does not know: left alone" ;;
        esac
    done < <(tac "$MANIFEST")
    rm -f "$MANIFEST"
    rmdir "$RECORD" 2>/dev/null || true
}

# ------------------------------------------------------------------------------------------------------------------- do

plan() {
    echo "It would:"
    echo "  - make a Python environment in $prefix, and build hyperline in it: CPU, CUDA (compute capability $gpu), TensorRT; $jobs at a time"
    echo "  - link /usr/local/bin/hyperline there"
    echo "  - add the system user hyperline, /var/lib/hyperline (its strips) and /etc/hyperline (what flies)"
    echo "  - add the systemd unit hyperline@.service; nothing is started or enabled"
    if [ -n "$camera" ]; then
        [ "$receive" -ge "$RECEIVE_BYTES" ] || echo "  - let sockets hold $((RECEIVE_BYTES >> 20)) MiB (sysctl, now and at every start)"
        echo "  - set packets of $JUMBO_BYTES bytes on $camera (udev, now and at every start)"
    fi
    [ -z "$power_mode" ] || echo "  - choose power mode $power_mode"
    [ -z "$clocks" ] || echo "  - hold the clocks at their highest until the next start"
    echo "  - write down each step in ${MANIFEST#"$ROOT"}, for --undo"
}

install_all() {
    mkdir -p "$RECORD"
    : >"$MANIFEST"
    trap 'broken $?' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    install_package
    install_user
    install_unit
    if [ -n "$camera" ]; then install_camera; fi
    set_power
    note complete
    trap - EXIT INT TERM HUP
}

# Whatever ended it: nothing stays.
broken() {
    trap '' INT TERM HUP
    trap - EXIT
    set +e
    echo "It failed; taking back what was done:" >&2
    take_back >&2
    exit "$(($1 == 0 ? 1 : $1))"
}

install_package() {
    local python=$TREE/bin/python source=() library
    folder "$(dirname "$TREE")"
    note tree "$TREE"
    # TensorRT's Python package is the system's.
    run python3 -m venv --system-site-packages "$TREE"
    if [ -n "$wheels" ]; then source=(--no-index --find-links "$wheels"); fi
    echo "Building; this takes some minutes."
    CUDACXX=$ROOT/usr/local/cuda/bin/nvcc CMAKE_BUILD_PARALLEL_LEVEL=$jobs \
        "$python" -m pip install --disable-pip-version-check --quiet "${source[@]}" -c "$SOURCE/constraints.txt" \
        -Ccmake.define.HYPERLINE_CUDA=ON -Ccmake.define.HYPERLINE_TENSORRT=ON \
        "-Ccmake.define.CMAKE_CUDA_ARCHITECTURES=$gpu-real" "-Ccmake.define.HYPERLINE_ORT_INCLUDE=$headers" \
        "${SOURCE}[tensorrt]" "cuda-bindings==${cuda%%.*}.*"
    # CMake leaves out what it cannot build; here all of it is wanted.
    for library in $LIBRARIES; do
        if [ -z "$(find "$TREE/lib" -path "*/hyperline/plugins/lib/$library" -print -quit)" ]; then
            echo "$library was not built; the lines above and docs/tensorrt.md say more" >&2
            exit 1
        fi
    done
    "$TREE/bin/hyperline" verify "$SOURCE/tests/bundle/tiny.hlb" >/dev/null
    folder "$(dirname "$COMMAND")"
    note link "$COMMAND" "$prefix/bin/hyperline"
    ln -s "$prefix/bin/hyperline" "$COMMAND"
}

install_user() {
    local group groups=
    if ! run id hyperline >/dev/null 2>&1; then
        note user hyperline
        # The GPU's devices belong to these.
        for group in video render; do
            if grep -q "^$group:" "$ROOT/etc/group"; then groups=${groups:+$groups,}$group; fi
        done
        run useradd --system --home-dir /var/lib/hyperline --no-create-home --shell /usr/sbin/nologin \
            ${groups:+--groups "$groups"} hyperline
    fi
    folder "$ROOT/var/lib/hyperline"
    # All of it: strips of an install before this one belong to a user who is gone.
    run chown -R hyperline: "$ROOT/var/lib/hyperline"
    folder "$ROOT/etc/hyperline"
}

install_unit() {
    note reload
    put "$UNIT" <"$SOURCE/packaging/hyperline@.service"
    run systemctl daemon-reload
}

install_camera() {
    if [ "$receive" -lt "$RECEIVE_BYTES" ]; then
        echo "net.core.rmem_max = $RECEIVE_BYTES" | put "$SYSCTL"
        note sysctl net.core.rmem_max "$receive"
        run sysctl -q -w "net.core.rmem_max=$RECEIVE_BYTES"
    fi
    note rules
    echo "ACTION==\"add\", SUBSYSTEM==\"net\", KERNEL==\"$camera\", ATTR{mtu}=\"$JUMBO_BYTES\"" | put "$UDEV"
    run udevadm control --reload
    note mtu "$camera" "$(cat "$ROOT/sys/class/net/$camera/mtu")"
    run ip link set dev "$camera" mtu "$JUMBO_BYTES"
}

set_power() {
    if [ -n "$power_mode" ]; then
        note power - "$(run nvpmodel -q 2>/dev/null | grep -E '^[0-9]+$' | head -n 1)"
        run nvpmodel -m "$power_mode"
    fi
    if [ -n "$clocks" ]; then
        note clocks "$RECORD/clocks"
        run jetson_clocks --store "$RECORD/clocks"
        run jetson_clocks
    fi
}

# ----------------------------------------------------------------------------------------------------------------- main

if [ "$mode" = undo ]; then
    if [ "$(run id -u)" != 0 ]; then
        echo "not root; call it with sudo" >&2
        exit 2
    fi
    if [ ! -e "$MANIFEST" ]; then
        echo "Nothing to take back: ${MANIFEST#"$ROOT"} is not there."
        exit 0
    fi
    echo "Taking back:"
    take_back
    echo "Done."
    exit 0
fi

look
if [ "$faults" -gt 0 ]; then
    echo "$faults fault(s); nothing was changed." >&2
    exit 2
fi
plan
if [ "$mode" = check ]; then
    echo "Nothing was changed."
    exit 0
fi
if [ -z "$yes" ]; then
    read -r -p "Go on? [y/N] " answer || answer=
    case $answer in
    y | Y | yes) ;;
    *)
        echo "Nothing was changed."
        exit 0
        ;;
    esac
fi
take_back
install_all
echo "Installed. Next: hyperline doctor, then docs/install.md on what to fly."
