# Sourced: packages of a newer suite than the system's, from the system's own Debian mirror, unpacked and not installed.
# Root is not needed.
# shellcheck shell=bash
suite=forky
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/apt/{lists/partial,cache/archives/partial} "$work"/{deb,root}
# shellcheck disable=SC2016  # apt replaces $(REPO_URI)
mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep '/debian/\?$' | head -n 1)
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" > "$work/apt/sources.list"

newer_apt() {
    apt-get -qq -o Dir::Etc::sourcelist="$work/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::lists="$work/apt/lists" -o Dir::Cache="$work/apt/cache" -o APT::Sandbox::User="$(id -un)" "$@"
}

# unpack PACKAGE...: into $work/root. Fails, and says why, if one of them cannot be had.
unpack() {
    (cd "$work/deb" && newer_apt download "$@" 2> "$work/errors") || { cat "$work/errors" >&2; return 1; }
    for package in "$work"/deb/*.deb; do dpkg -x "$package" "$work/root"; done
}

newer_apt update
