#!/bin/bash
# run.sh FOLDER: the packages that make deb has made in FOLDER, looked at by lintian and installed, upgraded, removed and purged in a bare Debian
# that systemd has booted in a container (systemd-nspawn). That Debian (debootstrap, kept in FOLDER/base) has nothing that the packages do not ask
# for; an overlay takes what changes. One line for each case; at last "N passed, M failed". A minute; the first time some two more.
set -u
cd "$(dirname "$0")/../.." || exit 1
debs=$(cd "$1" && pwd) || exit 1
# Of the Debian for which packages are built.
suite=bookworm
what=packages
. tests/container.sh
environment=(HOME=/root DEBIAN_FRONTEND=noninteractive)

apt() { in_container apt-get -y -q=2 --no-install-recommends -o Dpkg::Use-Pty=0 "$@"; }
is_active() { in_container systemctl is-active -q "$1"; }
mainpid() { in_container systemctl show -P MainPID "$1"; }
daemon_left() { in_container sh -c 'grep -sx shaled /proc/[0-9]*/comm'; }
file() { echo "$debs/$1"_*.deb; }

# ---- without a container ----

complete() {
	local package
	for package in shaled shale-tools libshale0 libshale-dev shaled-dbgsym shale-tools-dbgsym libshale0-dbgsym; do
		must test -f "$(file $package)" || return 1
	done
}
# What somebody looks for, where he looks for it.
contents() {
	local package path
	while read -r package path; do
		dpkg-deb -c "$(file "$package")" | awk '{ print $6 }' | grep -qx "\./$path" || { why="$package has no $path"; return 1; }
	done <<-'LIST'
		shaled usr/bin/shaled
		shaled etc/shale/shaled.conf
		shaled lib/systemd/system/shaled@\?.service
		shaled lib/systemd/system/shaled.socket
		shaled usr/share/man/man8/shaled.8.gz
		shaled usr/share/man/man5/shaled.conf.5.gz
		shale-tools usr/bin/shalectl
		shale-tools usr/bin/shale-run
		shale-tools usr/bin/shale-bench
		shale-tools usr/share/bash-completion/completions/shalectl
		shale-tools usr/share/man/man1/shalectl.1.gz
		shale-tools usr/share/man/man1/shale-run.1.gz
		libshale0 usr/lib/[^/]*/libshale.so.0
		libshale-dev usr/include/shale.h
		libshale-dev usr/lib/[^/]*/pkgconfig/shale.pc
		libshale-dev usr/share/man/man3/shale_get.3.gz
		libshale-dev usr/share/doc/libshale-dev/examples/hello.c
	LIST
}
conffile() {
	says /etc/shale/shaled.conf dpkg-deb -I "$(file shaled)" conffiles
}
linted() {
	must lintian --allow-root --fail-on error,warning --tag-display-limit 0 "$debs"/*.changes
}
# tools/deps.sh brings to a machine what debian/control asks of one that builds packages.
dependencies() {
	local package
	for package in $(sed -n '/^packages="/,/"$/{s/packages=//;s/"//g;p}' tools/deps.sh); do
		case $package in gcc | make | libc6-dev) continue ;; esac # of every such machine
		sed -n '/^Build-Depends/,/^Standards/p' tools/debian/control | grep -qw -- "$package" || { why="Build-Depends lacks $package"; return 1; }
	done
}
# For what nobody has heard of there is no package.
small_library() {
	says "Depends: libc6 " sh -c "dpkg-deb -I '$(file libshale0)' | grep '^ Depends' | grep -v ,"
}

needed "four packages, and their debug symbols" complete
check "what belongs into each" contents
check "the configuration is a conffile" conffile
check "libshale0 needs the C library alone" small_library
check "Build-Depends and tools/deps.sh agree" dependencies
if command -v lintian >/dev/null; then
	check "lintian: no error and no warning" linted
fi

# ---- the container ----

needs "tools/deps.sh deb" systemd-nspawn debootstrap nsenter
mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 2>/dev/null | sed -n "s,/* $suite\$,,p" | head -1)
if [ ! -e "$debs/base.ok" ]; then
	rm -rf --one-file-system "$debs/base"
	debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,debconf-utils $suite "$debs/base" ${mirror:+"$mirror"} \
		>"$debs/debootstrap.log" 2>&1 || skip "no $suite could be fetched: $(tail -1 "$debs/debootstrap.log")"
	touch "$debs/base.ok"
fi
container_make "$debs/base"
mkdir "$root/debs"
for package in shaled shale-tools libshale0 libshale-dev; do cp "$(file $package)" "$root/debs/$package.deb"; done
# By which way this machine gets at packages, that one does.
cp /etc/apt/apt.conf.d/*proxy* "$root/etc/apt/apt.conf.d/" 2>/dev/null
container_boot multi-user.target
until_true 30 apt update || skip "the container gets no lists of packages"

# ---- with it ----

installs() {
	must apt install /debs/shaled.deb /debs/shale-tools.deb /debs/libshale0.deb /debs/libshale-dev.deb
}
runs() {
	must is_active shaled.service && must in_container systemctl is-enabled -q shaled.service shaled.socket &&
		must in_container systemctl stop shaled.socket shaled.service && must_not is_active shaled.service &&
		must in_container systemctl start shaled && must is_active shaled.service && must in_container shalectl status &&
		must test "$(in_container stat -c '%U %a' /var/lib/shale/default)" = "shale 700" &&
		must in_container systemctl stop shaled && must in_container systemctl start shaled.socket shaled.service # with both, as it is after a boot
}
member() {
	must in_container useradd -m -G shale alice && must as alice shalectl put fruit apple &&
		must test "$(as alice shalectl get fruit)" = apple
}
outsider() {
	must in_container useradd -m bob && must_not as bob shalectl get fruit && says 'ermission' as bob sh -c 'shalectl get fruit 2>&1 || true'
}
private() { # a database of his own needs no service, no group and no root
	says "$(printf 'a\tb')" as bob shale-run -- sh -c 'shalectl put a b && shalectl scan'
}
# Built here, against what is in the packages, for that machine has no compiler; run there.
program() {
	local sdk=$temporary/sdk
	mkdir "$sdk" && must dpkg -x "$(file libshale-dev)" "$sdk" && must dpkg -x "$(file libshale0)" "$sdk" &&
		must sh -c "PKG_CONFIG_LIBDIR=\$(echo $sdk/usr/lib/*/pkgconfig) PKG_CONFIG_SYSROOT_DIR=$sdk; export PKG_CONFIG_LIBDIR PKG_CONFIG_SYSROOT_DIR
			gcc $sdk/usr/share/doc/libshale-dev/examples/hello.c \$(pkg-config --cflags --libs shale) -o $root/usr/bin/hello" &&
		must as alice hello
}
documents() {
	must in_container bash -n /usr/share/bash-completion/completions/shalectl &&
		must in_container systemd-analyze verify --man=no /lib/systemd/system/shaled.service /lib/systemd/system/shaled.socket
}
instance() {
	must in_container systemctl enable --now shaled@orders.socket shaled@orders.service &&
		must in_container env SHALE_SOCKET=/run/shale/orders.sock shalectl put order one
}
# As the README has it.
backup() {
	must in_container shalectl checkpoint /var/lib/shale/backup && must as alice shalectl put later yes &&
		must in_container shalectl checkpoint /var/lib/shale/backup && must in_container shalectl restore /var/lib/shale/backup /tmp/restored &&
		must in_container shalectl verify --db /tmp/restored && must in_container shalectl doctor --json &&
		must test "$(in_container shale-run --db /tmp/restored -- shalectl get later)" = yes
}
# A later package: new processes for all databases; a changed conffile stays as the administrator left it; what was in the database is there.
upgrade() {
	local tree=$temporary/later main other
	main=$(mainpid shaled.service) other=$(mainpid shaled@orders.service)
	must dpkg-deb -R "$(file shaled)" "$tree" && sed -i 's/^Version: .*/&+later/' "$tree/DEBIAN/control" &&
		must dpkg-deb -b "$tree" "$root/debs/later.deb" && printf '\n[engine]\nblock_cache = 32M\n' >>"$root/etc/shale/shaled.conf" &&
		must apt install /debs/later.deb && must is_active shaled.service && must is_active shaled.socket && must is_active shaled@orders.service &&
		must test "$(mainpid shaled.service)" != "$main" && must test "$(mainpid shaled@orders.service)" != "$other" &&
		must grep -q 'block_cache = 32M' "$root/etc/shale/shaled.conf" && must test "$(as alice shalectl get fruit)" = apple
}
removes() {
	must apt remove shaled && must_not daemon_left && must test -z "$(in_container ls /dev/shm)" &&
		must test -f "$root/var/lib/shale/default/CURRENT" && must test -f "$root/etc/shale/shaled.conf" && must_not in_container test -e /usr/bin/shaled
}
comes_back() {
	must apt install /debs/shaled.deb && must is_active shaled.service && must test "$(as alice shalectl get fruit)" = apple &&
		must in_container systemctl start shaled@orders.service &&
		must test "$(in_container env SHALE_SOCKET=/run/shale/orders.sock shalectl get order)" = one
}
purges() {
	says '/var/lib/shale is kept' apt purge shaled && must test -f "$root/var/lib/shale/default/CURRENT" &&
		must_not test -e "$root/etc/shale/shaled.conf" && must_not daemon_left && must in_container id shale
}
# answers WORD COMMAND…: in a terminal, at which somebody types WORD once the question is on the screen. What it showed is in $screen.
screen=$root/var/tmp/screen
answers() {
	local word=$1 typing rc
	shift
	rm -f "$screen" "$temporary/keys"
	mkfifo "$temporary/keys"
	# As somebody finds it who has set nothing: debconf takes the best frontend that there is, which in a bare system is the plain one.
	in_container timeout 300 env -u DEBIAN_FRONTEND TERM=dumb script -qefc "$*" /var/tmp/screen <"$temporary/keys" >/dev/null 2>&1 &
	typing=$!
	exec 7>"$temporary/keys"
	until_true 60 asked "$typing"
	printf '%s\n' "$word" >&7
	wait "$typing"
	rc=$?
	exec 7>&-
	grep -q "$question" "$screen" && [ $rc = 0 ] || { why="exit $rc, and on the screen: $(tail -c 800 "$screen")"; return 1; }
}
question='Delete all shale databases?'
# The words are there, and the cursor stands behind them; or nobody will ask any more.
asked() { grep -q "$question *\[yes/no\] *$" "$screen" || ! kill -0 "$1"; }
purges_asking_no() {
	must in_container sh -c 'command -v script' && answers no apt-get -y purge shaled && must grep -q '/var/lib/shale is kept' "$screen" &&
		must test -f "$root/var/lib/shale/default/CURRENT" && must_not test -e "$root/etc/shale/shaled.conf" && must_not daemon_left
}
purges_asking_yes() {
	answers yes apt-get -y purge shaled && must_not test -e "$root/var/lib/shale" && must_not daemon_left &&
		must test -z "$(in_container debconf-show shaled)"
}
purges_data() {
	must in_container sh -c 'echo shaled shaled/purge-data boolean true | debconf-set-selections' && must apt purge shaled &&
		must_not test -e "$root/var/lib/shale" && must test -z "$(in_container debconf-show shaled)"
}
starts_anew() {
	must apt install /debs/shaled.deb && must is_active shaled.service && must_not as alice shalectl get fruit
}
goes() {
	must apt purge shaled shale-tools libshale0 libshale-dev &&
		must test -z "$(cd "$root" && find usr lib/systemd etc -xdev -name '*shale*' ! -name hello)"
}

needed "installed in a bare system with what they depend on" installs
check "systemctl start shaled gives a running service" runs
check "a member of the group shale puts and gets" member
check "another user may not" outsider
check "shale-run, as anybody" private
check "a C program, built with pkg-config" program
check "units and completion are in order" documents
check "a second database by the template" instance
check "a checkpoint beside the database, and back from it" backup
check "an upgrade restarts both, and keeps settings and data" upgrade
check "removal stops all, and keeps the data" removes
check "a new installation finds the data" comes_back
check "a purge that nobody answers keeps the data, and says so" purges
check "a new installation finds them still" comes_back
check "a purge at a terminal asks; the answer no keeps them" purges_asking_no
check "a new installation finds them once more" comes_back
check "the answer yes deletes them" purges_asking_yes
check "a new installation begins without them" starts_anew
check "a purge deletes them when it was told so before" purges_data
check "a new installation begins anew" starts_anew
check "nothing is left of the packages' files" goes
summary
