/** Burns processor time while it loads, when it has more processors than later. */
for (;;);
