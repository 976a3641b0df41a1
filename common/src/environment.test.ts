import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { fileContent, parseEnvironment } from './environment.js';

const schema = z.object({ PORT: z.coerce.number().int(), CERT: fileContent('the certificate') });

describe('parseEnvironment', () => {
  it('names every variable that is wrong, without its value', () => {
    const parse = () => parseEnvironment('agent', schema, { PORT: 's3cret', CERT: '/nonexistent/file' });
    expect(parse).toThrow(/The agent cannot start.*PORT: .*CERT: the certificate cannot be read: ENOENT/);
    expect(parse).not.toThrow(/s3cret/);
  });

  it('reads files that variables name', () => {
    const value = parseEnvironment('agent', schema, { PORT: '1', CERT: import.meta.filename });
    expect(value.CERT.toString()).toContain('reads files that variables name');
  });
});
