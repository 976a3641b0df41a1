/**
 * How fast a sandbox's raw output (file descriptors 1 and 2, past the runtime's own logging) is read. An invocation's log
 * holds 1 MB, so more is only counted; a program that writes more waits, and its neighbours do not.
 */
export const RAW_OUTPUT_LIMITS = { bytesPerSecond: 1024 * 1024, burstBytes: 4 * 1024 * 1024 };
