#!/usr/bin/env bash
# Unpack PostgreSQL MAJOR from another Debian suite into DEST, beside the system's own PostgreSQL. Its programs then run
# like any others, from DEST/usr/lib/postgresql/MAJOR/bin.
#
#   postgres-from-debian.sh SUITE MAJOR DEST        e.g.  trixie 17 /var/cache/lifeboat/postgresql-17
#
# Needs apt, dpkg, patchelf and file, and no root. Takes about 15 s.
#
# How: the package and all it depends on, its C library included, are unpacked and never installed, and every program is
# pointed at that C library, so nothing of the host changes. The work is done in a folder beside DEST that is renamed at
# the end: DEST is whole or not there. Others who want the same wait.
set -euo pipefail
suite=${1:?SUITE} major=${2:?MAJOR} dest=${3:?DEST}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

case $(dpkg --print-architecture) in
  amd64) triplet=x86_64-linux-gnu loader=ld-linux-x86-64.so.2 ;;
  arm64) triplet=aarch64-linux-gnu loader=ld-linux-aarch64.so.1 ;;
  *) echo "no recipe for $(dpkg --print-architecture)" >&2; exit 1 ;;
esac

# The server's OS user, which is another one when root runs this, must be able to enter and read.
umask 022
mkdir -p "$(dirname "$dest")"
exec 9>"$dest.lock"
flock 9
[ ! -e "$dest" ] || exit 0

# What an interrupted attempt left behind: nobody else works on it, the lock says.
rm -rf "$dest.unpacking"
trap 'rm -rf "$dest.unpacking"' EXIT
trap 'exit 130' INT TERM
work=$dest.unpacking
mkdir -p "$work"/.apt/{lists/partial,cache/archives/partial}

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep '/debian/*$' | head -n 1 || true)
echo "deb [signed-by=$keyring] ${mirror:?apt knows no Debian mirror: look at /etc/apt/sources.list.d} $suite main" >"$work/.apt/sources.list"
apt=(-o "Dir::Etc::sourcelist=$work/.apt/sources.list" -o Dir::Etc::sourceparts=-
  -o "Dir::State::Lists=$work/.apt/lists" -o "Dir::Cache=$work/.apt/cache" -o Dir::State::status=/dev/null
  -o APT::Install-Recommends=false -o "APT::Sandbox::User=$(id -un)" -o Debug::NoLocking=1 -o Acquire::Retries=3)
apt-get "${apt[@]}" -qq update
apt-cache "${apt[@]}" show "postgresql-$major" >"$work/.apt/shown" 2>&1 && [ -s "$work/.apt/shown" ] ||
  { echo "Debian $suite has no postgresql-$major" >&2 && exit 1; }
apt-get "${apt[@]}" -qq install -y --download-only "postgresql-$major"
for deb in "$work"/.apt/cache/archives/*.deb; do dpkg -x "$deb" "$work"; done
# Not needed to run a server, and most of its size: just-in-time compilation is off in every server started here.
rm -rf "$work/.apt" "$work"/usr/share/{doc,man,locale} "$work/usr/lib/$triplet"/libLLVM* \
  "$work/usr/lib/postgresql/$major/lib"/{bitcode,llvmjit*}

programs=$work/usr/lib/postgresql/$major/bin
final_libraries=$dest/usr/lib/$triplet
for program in "$programs"/*; do
  file -b "$program" | grep -q ELF || continue
  patchelf --set-interpreter "$final_libraries/$loader" --force-rpath --set-rpath "$final_libraries" "$program"
done
find "$work/usr/lib/postgresql/$major/lib" "$work/usr/lib/$triplet" -name '*.so*' -type f \
  ! -name 'ld-linux*' ! -name 'libc.so.6' -print0 |
  while IFS= read -r -d '' library; do
    # A few are linker scripts, no libraries.
    patchelf --force-rpath --set-rpath "$final_libraries" "$library" 2>/dev/null || true
  done

mv -T "$work" "$dest"
if ! "$dest/usr/lib/postgresql/$major/bin/postgres" --version; then
  rm -rf "$dest"
  exit 1
fi
