// Finds the primes up to args.limit. Run it: npx lambda jobs run examples/jobs/primes.js --args '{"limit": 100}' --wait
const limit = args.limit ?? 50;
const composite = new Set();
const primes = [];
for (let n = 2; n <= limit; n += 1) {
  if (composite.has(n)) continue;
  primes.push(n);
  for (let multiple = n * n; multiple <= limit; multiple += n) composite.add(multiple);
}
console.log(`${primes.length} primes up to ${limit}`);
return { count: primes.length, largest: primes.at(-1) };
