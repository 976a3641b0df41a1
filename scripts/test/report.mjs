/**
 * The run's account: one line per step as it happens, every failure in full at the end, the count last.
 */
export class Report {
  #passed = 0;
  /** @type {{name: string, output: string}[]} */
  #failures = [];
  #startedAt = performance.now();

  /** A step of the set-up, whose work resolves with what was done. It counts only when it fails, and then this throws. */
  async setUp(name, work) {
    const startedAt = performance.now();
    try {
      this.#line('set-up', name, await work(), startedAt);
    } catch (error) {
      this.#line('set-up', name, 'FAILED', startedAt);
      this.#failures.push({ name: `set-up: ${name}`, output: error.message });
      throw new SetUpFailed(name, { cause: error });
    }
  }

  /** A check that either holds or does not. */
  async check(name, work) {
    const startedAt = performance.now();
    const { ok, output } = await work();
    this.#line('check', name, ok ? 'ok' : 'FAILED', startedAt);
    if (ok) this.#passed += 1;
    else this.#failures.push({ name, output });
    return ok;
  }

  /** A step that counts its own tests. */
  async tests(name, work) {
    const startedAt = performance.now();
    const { passed, failures } = await work();
    this.#passed += passed;
    this.#failures.push(...failures);
    const note = failures.length === 0 ? `${passed} passed` : `${passed} passed, ${failures.length} FAILED`;
    this.#line('tests', name, note, startedAt);
  }

  /** A step that could not be run because another failed. */
  notRun(name, because) {
    this.#failures.push({ name, output: `Not run, because ${because}.` });
    this.#line('tests', name, 'NOT RUN', performance.now());
  }

  /** Prints failures and the count. Returns the exit status: 0 only when something ran and nothing failed. */
  finish() {
    for (const [index, { name, output }] of this.#failures.entries()) {
      write(`\n── failure ${index + 1} of ${this.#failures.length}: ${name}`);
      write(output.trim() === '' ? '(no output)' : output.trimEnd());
    }
    const minutes = ((performance.now() - this.#startedAt) / 60_000).toFixed(1);
    write(`\nin ${minutes} minutes`);
    write(`${this.#passed} passed, ${this.#failures.length} failed`);
    return this.#failures.length === 0 && this.#passed > 0 ? 0 : 1;
  }

  #line(kind, name, note, startedAt) {
    const seconds = ((performance.now() - startedAt) / 1_000).toFixed(1);
    write(`${kind.padEnd(7)} ${name.padEnd(22)} ${note.padEnd(40)} ${seconds.padStart(6)} s`);
  }
}

/** Already told to the report; nothing that depends on it can run. */
export class SetUpFailed extends Error {
  constructor(step, options) {
    super(`the set-up step "${step}" failed`, options);
  }
}

function write(line) {
  process.stdout.write(`${line}\n`);
}
