/** What a Node process needs beside V8's old space: its own code, stacks, the young generation, libraries. */
const OUTSIDE_HEAP_MB = 64;

/**
 * The `--max-old-space-size` that fits a sandbox of `memoryMb`. V8 then collects garbage before the kernel's limit is
 * near, and a function that keeps too much gets V8's own explanation on its standard error.
 *
 * 90 % is AWS's figure. Small sandboxes keep at least 64 MB for everything outside the heap, as long as that leaves the
 * heap one half: 64 MB → 32, 128 MB → 64, 512 MB → 448, 1024 MB → 921. The limit is fixed at boot (setting the flag
 * later has no effect), so it belongs to the sandbox's memory and not to its function.
 */
export function heapLimitMb(memoryMb: number): number {
  return Math.floor(Math.max(memoryMb / 2, Math.min(memoryMb * 0.9, memoryMb - OUTSIDE_HEAP_MB)));
}
