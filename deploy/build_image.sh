#!/bin/sh
# Builds the image of all jobs: deploy/build_image.sh IMAGE [OPTION OF buildah build...], from any folder.
#
# No registry of images is asked. Two images are made of Debian's packages: one to build in, and one to run in, which holds
# Python's interpreter, its standard library and nothing else: no shell, no package manager (55 MB; Debian's smallest system
# with Python is 207 MB). Wheels are fetched first, so that the build itself needs no network.
#
# Needs buildah, mmdebstrap (apt install buildah mmdebstrap), pip, and root. Where storage or namespaces are not to be had
# (in a container): STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot.
set -eu

case "${1:---help}" in
-*) sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0"; exit 0 ;;
esac
image=$1
shift
for tool in buildah mmdebstrap git; do
	command -v $tool > /dev/null || { echo "build_image.sh: $tool is not installed" >&2; exit 1; }
done
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# base NAME: an image of the root file system $work/NAME.tar; prints its name and digest.
base() {
	container=$(buildah from scratch)
	buildah add --quiet "$container" "$work/$1.tar" / > /dev/null
	buildah commit --quiet --rm "$container" "localhost/leo-lifecycle-$1" > /dev/null
	echo "localhost/leo-lifecycle-$1@$(buildah inspect --type image --format '{{.FromImageDigest}}' "localhost/leo-lifecycle-$1")"
}

# shellcheck disable=SC2016 # mmdebstrap's own $1, the root that it lays out
mmdebstrap --quiet --variant=extract --skip=cleanup --include=python3.11-minimal,libpython3.11-stdlib,libgcc-s1,tzdata \
	--extract-hook='ln -s python3.11 "$1/usr/bin/python3"' \
	--extract-hook='cd "$1" && rm -rf bin/* sbin etc/* var/* lib/systemd tmp/* usr/sbin usr/libexec usr/lib/binfmt.d usr/lib/dpkg usr/lib/mime usr/lib/x86_64-linux-gnu/gconv usr/lib/python3.11/lib2to3 usr/lib/python3.11/pydoc_data usr/lib/python3.11/sitecustomize.py usr/lib/python3.11/test' \
	--extract-hook='cd "$1/usr" && find bin share -mindepth 1 -maxdepth 1 ! -name "python3*" ! -name zoneinfo -exec rm -r {} +' \
	--extract-hook='mkdir -p "$1/tmp" && chmod 1777 "$1/tmp" && ln -s usr/share/zoneinfo/Etc/UTC "$1/etc/localtime"' \
	--extract-hook='chroot "$1" /usr/bin/python3 -m compileall -q /usr/lib/python3.11' \
	bookworm "$work/runtime.tar"
mmdebstrap --quiet --variant=minbase --include=python3,python3-venv bookworm "$work/build.tar"

for list in constraints build.constraints; do
	python3 -m pip download --quiet --no-deps --require-hashes --only-binary :all: --python-version 3.11 \
		--platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux_2_28_x86_64 \
		--requirement deploy/$list.txt --dest "$work/wheels"
done
printf '[global]\nno-index = true\nfind-links = /wheels\ndisable-pip-version-check = true\n' > "$work/pip.conf"

buildah build --pull=never --file deploy/Dockerfile --tag "$image" \
	--volume "$work/wheels:/wheels:ro" --volume "$work/pip.conf:/etc/pip.conf:ro" \
	--build-arg BUILD_IMAGE="$(base build)" --build-arg RUNTIME_IMAGE="$(base runtime)" \
	--build-arg VERSION="$(sed -n 's/^__version__ = "\(.*\)"/\1/p' core/__init__.py)" \
	--build-arg REVISION="$(git rev-parse HEAD)" \
	"$@" .
