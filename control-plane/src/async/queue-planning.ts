/**
 * Settings of the connections that the queue's statements run on, by PostgreSQL's names.
 *
 * A queue is empty and full again within seconds, so whatever the planner knows of its tables is wrong: with statistics of an
 * hour ago it reads a whole table for one row, or the other way round. What is right at every size is a look-up by index for
 * each row, so nothing else is left to it. And what it would find out by planning each statement anew is nothing: planning
 * takes longer than running.
 */
export const QUEUE_PLANNING = {
  enable_seqscan: 'off',
  enable_bitmapscan: 'off',
  enable_hashjoin: 'off',
  enable_mergejoin: 'off',
  plan_cache_mode: 'force_generic_plan',
} as const;

/**
 * And of those for what may be lost with the last moments before PostgreSQL itself is killed, so that nobody waits for the
 * disk: which node an attempt was sent to, and that it is still being worked on. Without the first an attempt whose control
 * plane died in the same moment is made again, under another epoch.
 */
export const QUEUE_UNHURRIED = { ...QUEUE_PLANNING, synchronous_commit: 'off' } as const;
