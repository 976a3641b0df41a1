import { randomUUID } from 'node:crypto';
import { Server, ServerCredentials, type ServerDuplexStream, status } from '@grpc/grpc-js';
import {
  type AgentFrame,
  type Certificate,
  type ControlFrame,
  type FleetServiceServer,
  FleetServiceService,
  type RenewRequest,
} from '@lambda-fleet/proto';

export interface PlayedReplicaOptions {
  readonly credentials?: ServerCredentials;
  /** Undefined signs nothing, as one without the authority's key. */
  readonly renew?: (request: RenewRequest) => Promise<Certificate>;
}

/** A replica of the control plane that welcomes every agent and announces what the test says. */
export class PlayedReplica {
  /** `host:port` each. */
  peers: readonly string[] = [];
  readonly #id = randomUUID();
  readonly #streams = new Set<ServerDuplexStream<AgentFrame, ControlFrame>>();

  private constructor(
    private readonly server: Server,
    readonly port: number,
  ) {}

  static async start({ credentials, renew }: PlayedReplicaOptions = {}): Promise<PlayedReplica> {
    const server = new Server();
    let replica: PlayedReplica | undefined;
    const service: FleetServiceServer = {
      connect: (stream) => replica?.accept(stream),
      transfer: (stream) => stream.on('error', () => undefined).resume(),
      fetchArtifact: (call) => call.emit('error', UNABLE),
      hasLayers: (_call, answer) => answer(UNABLE),
      putLayer: (_call, answer) => answer(UNABLE),
      renew: ({ request }, answer) => {
        if (renew === undefined) answer(UNABLE);
        else renew(request).then((certificate) => answer(null, certificate), answer);
      },
    };
    server.addService(FleetServiceService, service);
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync('127.0.0.1:0', credentials ?? ServerCredentials.createInsecure(), (err, bound) =>
        err === null ? resolve(bound) : reject(err),
      );
    });
    replica = new PlayedReplica(server, port);
    return replica;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  get linked(): boolean {
    return this.#streams.size > 0;
  }

  /** Tells the agents that are linked, and those that come, which replicas there are. */
  announce(peers: readonly string[]): void {
    this.peers = peers;
    for (const stream of this.#streams) this.#welcome(stream);
  }

  /** Ends as a process does that is killed. */
  kill(): void {
    this.server.forceShutdown();
  }

  private accept(stream: ServerDuplexStream<AgentFrame, ControlFrame>): void {
    stream.once('data', () => {
      this.#streams.add(stream);
      this.#welcome(stream);
    });
    stream.on('error', () => undefined);
    stream.on('cancelled', () => this.#streams.delete(stream));
    stream.on('end', () => stream.end());
  }

  #welcome(stream: ServerDuplexStream<AgentFrame, ControlFrame>): void {
    const told = { protocol: 2, sessionId: randomUUID(), heartbeatMs: 5_000, replicaId: this.#id };
    stream.write({ messages: [{ message: { $case: 'welcome', value: { ...told, peers: [...this.peers] } } }] });
  }
}

const UNABLE = { code: status.UNIMPLEMENTED, details: 'This control plane is played.' };
