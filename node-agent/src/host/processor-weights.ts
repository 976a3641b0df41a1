/** What a cgroup weighs against its siblings when all want the processor, as the kernel's files want it. */
export interface ProcessorWeight {
  /** `cpu.shares`. */
  readonly version1: string;
  /** `cpu.weight`. */
  readonly version2: string;
}

/** As much as any other program, or as engines give. */
export const EQUAL: ProcessorWeight = { version1: '1024', version2: '100' };

/** An eighth: enough to go on beside siblings that want everything. */
export const YIELDING: ProcessorWeight = { version1: '128', version2: '12' };
