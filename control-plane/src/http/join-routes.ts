import { NODE_ID } from '@lambda-fleet/common/certificates/node-certificate';
import { FleetError } from '@lambda-fleet/common/errors';
import { z } from 'zod';
import { EXPIRES_MINUTES_MAX, type JoinTokens } from '../enrollment/join-tokens.js';
import { parseInput } from '../functions/parse-input.js';
import type { ApiRoute } from './api-route.js';
import type { BodyBudget } from './body-budget.js';
import { param } from './function-routes.js';
import { readJson } from './read-input.js';

export interface JoinRoutesOptions {
  /** Undefined where no machine can join. */
  readonly tokens: Pick<JoinTokens, 'create'> | undefined;
  /** Where agents connect, and where they join. */
  readonly ports: { readonly controlPlane: number; readonly enroll: number };
  /** @throws FleetError `node_not_found` */
  readonly removeNode: (projectId: string, nodeId: string) => Promise<void>;
  readonly budget: BodyBudget;
}

const BODY_BYTES_MAX = 4 * 1024;

const MINUTES = `must be a whole number of minutes from 1 to ${EXPIRES_MINUTES_MAX}`;

const request = z.strictObject(
  {
    nodeId: z
      .string('must be a string')
      .regex(NODE_ID, 'must have 1 to 63 characters of a-z, 0-9, "." and "-", and begin with a letter or a digit')
      .optional(),
    expiresInMinutes: z
      .number(MINUTES)
      .int(MINUTES)
      .min(1, MINUTES)
      .max(EXPIRES_MINUTES_MAX, MINUTES)
      .default(EXPIRES_MINUTES_MAX),
  },
  'must be an object',
);

/** How machines come in and are cut off. */
export function joinRoutes({ tokens, ports, removeNode, budget }: JoinRoutesOptions): readonly ApiRoute[] {
  return [
    {
      method: 'POST',
      path: '/api/join-tokens',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const { nodeId, expiresInMinutes } = parseInput(request, await readJson(c, budget, BODY_BYTES_MAX, {}));
        if (tokens === undefined) {
          throw new FleetError(
            'enrollment_disabled',
            "This control plane cannot let machines join: it was started without the key of the fleet's authority. Set LAMBDA_TLS_CA_KEY, or ask a control plane that has it.",
          );
        }
        const created = await tokens.create({ projectId, nodeId, expiresInMinutes });
        return c.json(
          { ...created, nodeId: nodeId ?? null, controlPlanePort: ports.controlPlane, enrollPort: ports.enroll },
          201,
        );
      },
    },
    {
      method: 'DELETE',
      path: '/api/nodes/:node',
      policy: 'key',
      handle: async (c, { projectId }) => {
        await removeNode(projectId, param(c, 'node'));
        return c.body(null, 204);
      },
    },
  ];
}
