import pg from 'pg'

/**
 * Rows as an application has them, made by the server itself. The same size and seed give the same rows: every value
 * is a hash of its row's number, so neither the order nor the number of connections matters.
 *
 * `customers` (text, jsonb), `orders` (partitioned by month), `order_lines` (narrow, most of the rows) and `documents`
 * (bytea that no compressor shrinks, a third of the bytes), with the indexes that such tables have.
 */
interface Rows {
  readonly customers: number
  readonly orders: number
  readonly lines: number
  readonly documents: number
}

/** What a database of so many bytes (pg_database_size) holds; right to some percent. */
function rowsFor(bytes: number): Rows {
  const megabytes = Math.max(1, (bytes - emptyBytes) / 1e6)
  const per = (rows: number): number => Math.ceil(rows * megabytes)
  return { customers: per(95), orders: per(760), lines: per(5750), documents: per(28) }
}

const emptyBytes = 8e6
const months = 24
const linesPerOrder = 8
/** Distinct bodies: more than any window of a compressor used here reaches back over (32 MiB). */
const bodies = 4096

/** Fills an empty database, vacuums and analyzes it as autovacuum would have, and returns its size. */
export async function makeRows(url: string, bytes: number, seed = 1): Promise<number> {
  const rows = rowsFor(bytes)
  return withClient(url, async client => {
    for (const statement of tables()) await client.query(statement)
    // Two at once, because the servers and the machines that this runs on have two cores at least.
    await Promise.all([
      inTurn(url, [...customers(rows, seed), ...documents(rows, seed)]),
      inTurn(url, [...orders(rows, seed), ...lines(rows, seed)]),
    ])
    for (const statement of ['VACUUM ANALYZE', 'CHECKPOINT']) await client.query(statement)
    const { rows: found } = await client.query<{ bytes: string }>(
      'SELECT pg_database_size(current_database()) AS bytes',
    )
    return Number(found[0]?.bytes)
  })
}

async function inTurn(url: string, statements: readonly string[]): Promise<void> {
  await withClient(url, async client => {
    for (const statement of statements) await client.query(statement)
  })
}

export async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

function tables(): string[] {
  const partition = (month: number): string =>
    `CREATE TABLE orders_${month} PARTITION OF orders FOR VALUES
       FROM (${monthStart(month)}) TO (${monthStart(month + 1)})`
  return [
    `CREATE TABLE customers (id bigint PRIMARY KEY, email text NOT NULL UNIQUE, name text NOT NULL,
       profile jsonb NOT NULL, created_at timestamptz NOT NULL)`,
    `CREATE TABLE orders (id bigint NOT NULL, customer_id bigint NOT NULL, state text NOT NULL,
       total numeric(12,2) NOT NULL, note text, placed_at timestamptz NOT NULL, PRIMARY KEY (id, placed_at))
       PARTITION BY RANGE (placed_at)`,
    ...Array.from({ length: months }, (_, month) => partition(month)),
    'CREATE INDEX ON orders (customer_id)',
    `CREATE TABLE order_lines (order_id bigint NOT NULL, line smallint NOT NULL, sku text NOT NULL,
       quantity int NOT NULL, price numeric(10,2) NOT NULL)`,
    'CREATE TABLE documents (id uuid NOT NULL, title text NOT NULL, body bytea NOT NULL)',
    'ALTER TABLE documents ALTER body SET STORAGE EXTERNAL',
  ]
}

function monthStart(month: number): string {
  const date = new Date(Date.UTC(2024, month, 1)).toISOString().slice(0, 10)
  return `timestamptz '${date} 00:00+00'`
}

function customers({ customers }: Rows, seed: number): string[] {
  const { pick, word } = randomness(seed)
  const address = `jsonb_build_object('street', ${pick('i', 1, 200)} || ' ' || ${word('i', 'a', 12)},
    'zip', lpad(${pick('i', 2, 100_000)}::text, 5, '0'))`
  const profile = `jsonb_build_object('lang', (ARRAY['en','de','fr','ja'])[1 + ${pick('i', 3, 4)}],
    'visits', ${pick('i', 4, 1000)}, 'tags', jsonb_build_array(${word('i', 't', 6)}, ${word('i', 'u', 4)}),
    'address', ${address})`
  return [
    `INSERT INTO customers SELECT i, ${word('i', 'e', 9)} || i || '@' || ${word('i % 500', 'd', 7)} || '.example',
       initcap(${word('i', 'n', 7)}) || ' ' || initcap(${word('i', 's', 10)}), ${profile}, ${instant(pick, 'i', 5)}
       FROM generate_series(1::bigint, ${customers}) i`,
  ]
}

function orders({ orders, customers }: Rows, seed: number): string[] {
  const { pick } = randomness(seed)
  return [
    `INSERT INTO orders SELECT i, 1 + ${pick('i', 6, customers)},
       (ARRAY['new','paid','paid','shipped','shipped','returned'])[1 + ${pick('i', 7, 6)}],
       ${pick('i', 8, 100_000)} / 100.0, CASE WHEN ${pick('i', 9, 10)} < 3
       THEN 'please leave at door ' || ${pick('i', 10, 100)} END, ${instant(pick, 'i', 11)}
       FROM generate_series(1::bigint, ${orders}) i`,
  ]
}

function lines({ lines }: Rows, seed: number): string[] {
  const { pick } = randomness(seed)
  const skewed = (salt: number, power: number, most: number): string =>
    `floor(power(${pick('i', salt, 1_000_000)} / 1e6, ${power}) * ${most})::int`
  return [
    `INSERT INTO order_lines SELECT 1 + i / ${linesPerOrder}, i % ${linesPerOrder},
       'SKU-' || lpad(${skewed(12, 3, 20_000)}::text, 6, '0'), 1 + ${skewed(13, 4, 20)},
       ${pick('i', 14, 30_000)} / 100.0 FROM generate_series(0::bigint, ${lines - 1}) i`,
    'ALTER TABLE order_lines ADD PRIMARY KEY (order_id, line)',
    'CREATE INDEX ON order_lines (sku)',
  ]
}

/** Bodies come round in turn, so that each is as far from its like as it can be. */
function documents({ documents }: Rows, seed: number): string[] {
  const { word } = randomness(seed)
  const pool = Math.min(documents, bodies)
  const body = `(SELECT string_agg(sha256(int8send(${seed}) || int8send(n) || int8send(g)), '' ORDER BY g)
    FROM generate_series(1::bigint, 256) g)`
  const rounds = Array.from({ length: Math.ceil(documents / pool) }, (_, round) => round * pool)
  return [
    `CREATE TEMP TABLE bodies (n bigint, body bytea)`,
    'ALTER TABLE bodies ALTER body SET STORAGE EXTERNAL',
    `INSERT INTO bodies SELECT n, ${body} FROM generate_series(1::bigint, ${pool}) n`,
    ...rounds.map(
      before => `INSERT INTO documents SELECT md5(${before} + n || 'id ${seed}')::uuid,
        'Invoice ' || ${before} + n || ' for ' || ${word(`${before} + n`, 'f', 11)}, '\\x00275c0a'::bytea || body
        FROM bodies WHERE ${before} + n <= ${documents} ORDER BY n`,
    ),
    'ALTER TABLE documents ADD PRIMARY KEY (id)',
  ]
}

type Pick = (of: string, salt: number, count: number) => string

/** SQL for values that look random: a number below `count`, and a word. */
function randomness(seed: number): { pick: Pick; word(of: string, salt: string, length: number): string } {
  return {
    pick: (of, salt, count) => `abs(hashint8extended(${of}, ${seed * 1000 + salt}) % ${count})`,
    word: (of, salt, length) =>
      `left(translate(md5((${of}) || '${salt}${seed}'), '0123456789', 'aeioulnrst'), ${length})`,
  }
}

function instant(pick: Pick, of: string, salt: number): string {
  return `${monthStart(0)} + ${pick(of, salt, 729 * 86_400)} * interval '1 second'`
}
