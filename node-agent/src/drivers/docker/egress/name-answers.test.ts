import { randomBytes } from 'node:crypto';
import { decode, encode, type Packet, RECURSION_DESIRED } from 'dns-packet';
import { describe, expect, test } from 'vitest';
import { addressAnswers, type NameQuery, otherAnswers, RCODE, readQuery, writeAnswer } from './name-answers.js';

const ask = (packet: Partial<Packet>): Buffer =>
  encode({
    type: 'query',
    id: 7,
    flags: RECURSION_DESIRED,
    questions: [{ type: 'A', name: 'Api.Example.com' }],
    ...packet,
  });

function read(datagram: Buffer): NameQuery {
  const query = readQuery(datagram);
  if (query === undefined) throw new Error('it was not understood');
  return query;
}

describe('a question', () => {
  test('is read, its name in lower case', () => {
    expect(read(ask({}))).toMatchObject({ id: 7, name: 'api.example.com', type: 'A', responseBytesMax: 512 });
  });

  test.each([
    ['an answer', ask({ type: 'response' })],
    ['none', ask({ questions: [] })],
    [
      'two',
      ask({
        questions: [
          { type: 'A', name: 'a.example' },
          { type: 'A', name: 'b.example' },
        ],
      }),
    ],
    ['one of another class', ask({ questions: [{ type: 'A', name: 'a.example', class: 'CH' }] })],
    ['one for the root', ask({ questions: [{ type: 'NS', name: '.' }] })],
    ['one for a name with other bytes', ask({ questions: [{ type: 'A', name: 'a\0b.example' }] })],
    ['one for a name with a space', ask({ questions: [{ type: 'A', name: 'a b.example' }] })],
    ['a part of one', ask({}).subarray(0, 20)],
    ['a name that points at itself', Buffer.concat([ask({}).subarray(0, 12), Buffer.from([0xc0, 12, 0, 1, 0, 1])])],
    ['one that claims to bring thousands of records', claiming(65_535)],
    ['nothing', Buffer.alloc(0)],
    ['a long one', Buffer.concat([ask({}), Buffer.alloc(1_300)])],
  ])('that is %s gets no answer', (_what, datagram) => {
    expect(readQuery(datagram)).toBeUndefined();
  });

  test('of any bytes is read or not, and never thrown about', () => {
    for (let count = 0; count < 5_000; count += 1) {
      const noise = randomBytes(count % 80);
      readQuery(noise);
      readQuery(Buffer.concat([ask({}).subarray(0, count % 40), noise]));
    }
  });
});

/** A question whose header names so many answers, of which there is none. */
function claiming(answers: number): Buffer {
  const datagram = Buffer.from(ask({}));
  datagram.writeUInt16BE(answers, 6);
  return datagram;
}

describe('an answer', () => {
  test('repeats the question as it was written, with its id', () => {
    const query = read(ask({}));
    const answer = decode(writeAnswer(query, RCODE.noError, addressAnswers(query, ['203.0.113.1'], 30)));
    expect(answer).toMatchObject({
      type: 'response',
      id: 7,
      rcode: 'NOERROR',
      questions: [{ name: 'Api.Example.com' }],
    });
    expect(answer.answers).toMatchObject([{ type: 'A', name: 'Api.Example.com', ttl: 30, data: '203.0.113.1' }]);
    expect(decode(writeAnswer(query, RCODE.noSuchName))).toMatchObject({ rcode: 'NXDOMAIN', answers: [] });
  });

  test('of many addresses has as many as fit, and more where more may come', () => {
    const addresses = Array.from({ length: 40 }, (_, index) => `203.0.113.${index}`);
    const sizes = [512, 1_232].map((udpPayloadSize) => {
      const option = { type: 'OPT', name: '.', udpPayloadSize, flags: 0, options: [] } as never;
      const query = read(ask({ additionals: [option] }));
      const answer = writeAnswer(query, RCODE.noError, addressAnswers(query, addresses, 30));
      expect(answer.length).toBeLessThanOrEqual(udpPayloadSize);
      return decode(answer).answers?.length ?? 0;
    });
    expect(sizes[0]).toBeGreaterThan(8);
    expect(sizes[1]).toBeGreaterThan(sizes[0] ?? 0);
  });

  test('of other records that do not fit is marked as cut off', () => {
    const query = read(ask({ questions: [{ type: 'TXT', name: 'a.example' }] }));
    const answer = writeAnswer(
      query,
      RCODE.noError,
      otherAnswers(query, 'TXT', [['x'.repeat(200)], ['y'.repeat(200)], ['z'.repeat(200)]]),
    );
    expect(decode(answer)).toMatchObject({ flag_tc: true, answers: [] });
  });

  test.each([
    ['MX', { exchange: 'mail.example', priority: 5 }, { exchange: 'mail.example', preference: 5 }],
    [
      'SRV',
      { name: 'a.example', port: 1, priority: 2, weight: 3 },
      { target: 'a.example', port: 1, priority: 2, weight: 3 },
    ],
    ['NS', 'ns.example', 'ns.example'],
    ['CNAME', 'b.example', 'b.example'],
  ] as const)('with %s says what was found', (type, found, data) => {
    const query = read(ask({ questions: [{ type, name: 'a.example' }] }));
    expect(decode(writeAnswer(query, RCODE.noError, otherAnswers(query, type, [found]))).answers).toMatchObject([
      { type, data },
    ]);
  });
});
