import { isUtf8 } from 'node:buffer';
import type postgres from 'postgres';
import type { Sql } from '../db/connection-target.js';

type Fragment = postgres.PendingQuery<postgres.Row[]>;

/** Where a body is in the packed text: its first byte, from 1, its length, and 1 if it is in base64. */
type PackedAt = readonly [from: number, length: number, base64: 0 | 1];

/**
 * The bodies of a statement, one behind the other in one text parameter.
 *
 * The driver sends parameters as text only: a `bytea` as two digits for each byte, which costs this process's one thread
 * about 6 ms for a megabyte. Most bodies are text already, and go as they are in a fifth of that and half of the server's
 * time. One parameter, so that the statement is the same whatever is in it.
 */
export class PackedBodies {
  readonly #texts: string[] = [];
  #bytes = 0;

  get isEmpty(): boolean {
    return this.#texts.length === 0;
  }

  add(body: Buffer): PackedAt {
    const base64 = body.includes(0) || !isUtf8(body);
    const text = body.toString(base64 ? 'base64' : 'utf8');
    const length = base64 ? text.length : body.length;
    const at: PackedAt = [this.#bytes + 1, length, base64 ? 1 : 0];
    this.#texts.push(text);
    this.#bytes += length;
    return at;
  }

  /** An entry of the FROM list, named `packed`. */
  source(sql: Sql): Fragment {
    // Without `offset 0` the text would be converted again for every body.
    return sql`(select convert_to(${this.#texts.join('')}::text, 'UTF8') as bytes offset 0) packed`;
  }

  /** The bytes whose place is in the row's `more`; null where there is none. */
  body(sql: Sql, side: 'input' | 'output'): Fragment {
    const number = (at: 0 | 1) => sql`(more -> ${side}::text ->> ${at}::integer)::integer`;
    const part = sql`substring(packed.bytes from ${number(0)} for ${number(1)})`;
    return sql`case more -> ${side}::text ->> 2 when '0' then ${part} when '1' then decode(convert_from(${part}, 'UTF8'), 'base64') end`;
  }
}
