import { createSocket, type Socket } from 'node:dgram';
import type { AddressInfo } from 'node:net';
import { type Answer, decode, encode } from 'dns-packet';

/** What the world's names are, for a test that asks for them; it can be changed. */
export class UpstreamNameServer {
  /** Names to addresses, all good for so many seconds. */
  readonly addresses = new Map<string, { readonly data: readonly string[]; readonly ttl: number }>();
  readonly texts = new Map<string, string>();
  /** `TYPE name` of every question so far. */
  readonly asked: string[] = [];

  private constructor(private readonly socket: Socket) {
    socket.on('message', (datagram, from) => {
      const { id = 0, questions = [] } = decode(datagram);
      const [question] = questions;
      if (question === undefined) return;
      const { name, type } = question;
      this.asked.push(`${type} ${name.toLowerCase()}`);
      const known = this.addresses.get(name.toLowerCase());
      const text = this.texts.get(name.toLowerCase());
      let answers: Answer[] = [];
      if (type === 'A' && known !== undefined) {
        answers = known.data.map((data) => ({ type: 'A', name, ttl: known.ttl, data }));
      } else if (type === 'TXT' && text !== undefined) {
        answers = [{ type: 'TXT', name, ttl: 60, data: text }];
      }
      const flags = known === undefined && text === undefined ? 3 : 0;
      socket.send(encode({ type: 'response', id, flags, questions: [question], answers }), from.port, from.address);
    });
  }

  static async listen(): Promise<UpstreamNameServer> {
    const socket = createSocket('udp4');
    await new Promise<void>((bound) => socket.bind(0, '127.0.0.1', bound));
    return new UpstreamNameServer(socket);
  }

  get address(): string {
    return `127.0.0.1:${(this.socket.address() as AddressInfo).port}`;
  }

  close(): void {
    this.socket.close();
  }
}
