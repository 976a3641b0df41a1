import { type Answer, decode, encode, type Question, RECURSION_AVAILABLE, RECURSION_DESIRED } from 'dns-packet';
import type { OtherType } from './upstream-names.js';

/** Results of a query, by their number on the wire. */
export const RCODE = { noError: 0, serverFailure: 2, noSuchName: 3, refused: 5 } as const;
type Rcode = (typeof RCODE)[keyof typeof RCODE];

const HEADER_BYTES = 12;
/** What is zero in an ordinary question: that it is an answer, and what else might be asked. */
const QUERY_MASK = 0xf800;
const TRUNCATED = 1 << 9;
const RESPONSE_BYTES_DEFAULT = 512;
/** What fits into one frame, with the headers around it. */
const BYTES_MAX = 1_232;
const NAME = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*$/i;
/** For records whose time is not told. */
const OTHER_TTL_S = 30;

/** A question that can be answered. */
export interface NameQuery {
  readonly id: number;
  readonly question: Question;
  /** In lower case. */
  readonly name: string;
  readonly type: string;
  readonly responseBytesMax: number;
}

/** Undefined for whatever is not one ordinary question about one name: it gets no answer. */
export function readQuery(datagram: Buffer): NameQuery | undefined {
  if (datagram.length < HEADER_BYTES || datagram.length > BYTES_MAX || !isOrdinary(datagram)) return undefined;
  try {
    const packet = decode(datagram);
    const [question] = packet.questions ?? [];
    if (question === undefined) return undefined;
    if (question.class !== 'IN' || question.name.length > 253 || !NAME.test(question.name)) return undefined;
    const option = packet.additionals?.find((additional) => additional.type === 'OPT');
    const offered = option?.type === 'OPT' ? (option.udpPayloadSize ?? 0) : 0;
    return {
      id: packet.id ?? 0,
      question,
      name: question.name.toLowerCase(),
      type: question.type,
      responseBytesMax: Math.min(BYTES_MAX, Math.max(RESPONSE_BYTES_DEFAULT, offered)),
    };
  } catch {
    return undefined;
  }
}

/**
 * One question, nothing else but an option. Seen before it is decoded, because the decoder makes room for as many records as
 * a header claims, which takes half a millisecond for a datagram of twelve bytes.
 */
function isOrdinary(datagram: Buffer): boolean {
  const [flags, questions, answers, authorities, additionals] = [2, 4, 6, 8, 10].map((at) => datagram.readUInt16BE(at));
  const isQuery = ((flags ?? 0) & QUERY_MASK) === 0;
  return isQuery && questions === 1 && answers === 0 && authorities === 0 && (additionals ?? 0) <= 1;
}

/** Of addresses as many as fit are sent; other records whole or, marked as cut off, not at all. */
export function writeAnswer(query: NameQuery, rcode: Rcode, answers: readonly Answer[] = []): Buffer {
  const write = (part: readonly Answer[], more: number) =>
    encode({
      type: 'response',
      id: query.id,
      flags: RECURSION_DESIRED | RECURSION_AVAILABLE | more | rcode,
      questions: [query.question],
      answers: [...part],
    });
  let packet = write(answers, 0);
  for (let count = answers.length; packet.length > query.responseBytesMax; ) {
    if (query.type !== 'A' || count === 1) return write([], TRUNCATED);
    count -= 1;
    packet = write(answers.slice(0, count), 0);
  }
  return packet;
}

export function addressAnswers({ question }: NameQuery, addresses: readonly string[], ttl: number): Answer[] {
  return addresses.map((data) => ({ type: 'A', name: question.name, class: 'IN', ttl, data }));
}

/** `records` are as node:dns gives them for the type. */
export function otherAnswers(
  { question: { name } }: NameQuery,
  type: OtherType,
  records: readonly unknown[],
): Answer[] {
  const common = { name, class: 'IN', ttl: OTHER_TTL_S } as const;
  return records.map((record): Answer => {
    if (type === 'MX') {
      const { exchange, priority } = record as { exchange: string; priority: number };
      return { ...common, type, data: { exchange, preference: priority } };
    }
    if (type === 'SRV') {
      const {
        name: target,
        port,
        priority,
        weight,
      } = record as Record<'port' | 'priority' | 'weight', number> & { name: string };
      return { ...common, type, data: { target, port, priority, weight } };
    }
    if (type === 'TXT') return { ...common, type, data: record as string[] };
    return { ...common, type, data: record as string };
  });
}
