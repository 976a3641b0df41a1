/**
 * Shell script that takes what no function needs out of a Debian root: `$1` is its path. About half of it goes.
 * Copyright files stay, and setuid programs lose their bit, because nothing in a sandbox may become another user.
 */
export const TRIM_ROOTFS = `
set -e
cd "$1"
rm -rf var/cache/apt/* var/lib/apt/lists/* var/log/* var/cache/debconf/*-old var/lib/dpkg/*-old \\
  usr/share/man/* usr/share/info/* usr/share/locale/* usr/share/lintian usr/share/groff
find usr/share/doc -mindepth 1 -not -type d -not -name copyright -delete
find usr/share/doc -mindepth 1 -type d -empty -delete
find . -xdev -type f -perm /6000 -exec chmod a-s {} +
`;
