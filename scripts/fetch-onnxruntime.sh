#!/bin/sh
# Extracts the ONNX Runtime C library from its official Python wheel, pinned by version and hash.
# usage: scripts/fetch-onnxruntime.sh [DEST]      (default .onnxruntime)
set -eu
version=1.31.1
dest=${1:-.onnxruntime}
system=$(uname -s)-$(uname -m)
case $system in
  Linux-x86_64)
    platform=manylinux_2_28_x86_64
    wheel=5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f
    member=libonnxruntime.so.$version library=libonnxruntime.so
    want=fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3
    ;;
  Linux-aarch64)
    platform=manylinux_2_28_aarch64
    wheel=da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3
    member=libonnxruntime.so.$version library=libonnxruntime.so
    want=8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467
    ;;
  Darwin-arm64)
    platform=macosx_14_0_arm64
    wheel=60b6b69bfe580eab576cacc5d132a0e9cf2a37fcfd18d46dd191042b1d1ed0d7
    member=libonnxruntime.$version.dylib library=libonnxruntime.dylib
    want=f8b06155feece624e55e49124340eea279da812529ae6fbc46a9f2be9c9cad2e
    ;;
  *)
    echo "fetch-onnxruntime: no pinned ONNX Runtime for $system (there is one for Linux x86_64, Linux aarch64 and macOS arm64)" >&2
    echo "fetch-onnxruntime: set ORT_DYLIB_PATH to your own ONNX Runtime $version library" >&2
    exit 1
    ;;
esac

# The file sha256 records the last successful check, so that make does not hash 29 MB each time.
if [ -f "$dest/$library" ] && [ "$(cat "$dest/sha256" 2>/dev/null)" = "$want" ]; then
  exit 0
fi

python3 -m pip --version >/dev/null 2>&1 || {
  echo "fetch-onnxruntime: python3 with pip is needed (Debian: apt-get install python3-pip)" >&2
  exit 1
}
echo "fetching ONNX Runtime $version for $system" >&2
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
printf 'onnxruntime==%s --hash=sha256:%s\n' "$version" "$wheel" >"$temporary/requirements.txt"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
  --python-version 3.11 --implementation cp --abi cp311 --platform "$platform" \
  --dest "$temporary" --requirement "$temporary/requirements.txt"
mkdir -p "$dest"
python3 - "$temporary" "onnxruntime/capi/$member" "$dest/$library.part" "$want" <<'EOF'
import glob, hashlib, sys, zipfile
folder, member, target, want = sys.argv[1:]
data = zipfile.ZipFile(glob.glob(folder + "/*.whl")[0]).read(member)
found = hashlib.sha256(data).hexdigest()
if found != want:
    sys.exit(f"fetch-onnxruntime: {member} has sha256 {found}, expected {want}")
open(target, "wb").write(data)
EOF
mv "$dest/$library.part" "$dest/$library"
printf '%s\n' "$want" >"$dest/sha256"
