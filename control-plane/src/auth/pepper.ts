import type { Database } from '../db/database.js';
import { loadSecret } from '../db/load-secret.js';

/** The secret under which keys are hashed: made once, the same for every replica. */
export function loadPepper(database: Database): Promise<Buffer> {
  return loadSecret(database, 'api-key-pepper');
}
