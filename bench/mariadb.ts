import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import type { MariadbFacts } from '../test/services/facts.ts'
import { runSql } from '../test/services/mariadb.ts'
import { type Comparison, cairnSide, interleaved, type Side, storedBytes } from './postgres.ts'
import { cpuTimes } from './process-tree.ts'
import type { Workbench } from './workbench.ts'

export const mariadbPeer = 'mariadb-dump | zstd -1 -T0 | age'

/** The backup of one MariaDB database. The server makes the rows out of hashes of their numbers; a third are bytes that nothing compresses. */
export async function benchMariadb(
  bench: Workbench,
  size: { readonly name: string; readonly bytes: number },
  options: { readonly rounds: number; readonly say: (text: string) => void },
): Promise<Comparison> {
  bench.needSpace(4 * size.bytes + 1e9)
  const facts = await bench.mariadb()
  const database = `bench_${randomBytes(4).toString('hex')}`
  await runSql(facts, `CREATE DATABASE ${database}`)
  try {
    options.say(`making ${size.name} of rows`)
    const databaseBytes = await makeRows(facts, database, size.bytes)
    const serverCpu = async (): Promise<number> => cpuTimes(facts.pid)?.own ?? 0
    const sides = backupSides(bench, facts, database)
    const runs = await interleaved(`mariadb ${size.name}`, sides, options.rounds, serverCpu, options.say)
    return { bench: 'mariadb', size: size.name, databaseBytes, runs }
  } finally {
    await runSql(facts, `DROP DATABASE ${database}`)
    rmSync(join(bench.folder, 'store'), { recursive: true, force: true })
  }
}

/** Returns what the tables take, as the server tells it. */
async function makeRows(facts: MariadbFacts, database: string, bytes: number): Promise<number> {
  const per = (rows: number): number => Math.ceil((rows * bytes) / 1e6)
  const word = (salt: string, length: number): string => `LEFT(SHA2(CONCAT(seq, '${salt}'), 256), ${length})`
  const statements = [
    // The servers of the tests are small.
    'SET GLOBAL innodb_buffer_pool_size = 1073741824',
    'SET GLOBAL innodb_log_file_size = 536870912',
    'CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint NOT NULL, state varchar(10), total decimal(12, 2), note text, placed datetime)',
    'CREATE TABLE order_lines (id bigint, line int, sku varchar(20), quantity int, price decimal(10, 2), PRIMARY KEY (id, line))',
    'CREATE TABLE documents (id char(36) PRIMARY KEY, title text, body longblob)',
    `INSERT INTO orders SELECT seq, seq * 7919 % 100003, ELT(1 + seq % 3, 'new', 'paid', 'shipped'), seq % 99991 / 100, CONCAT('please leave at ', ${word('n', 20)}), '2024-01-01' + INTERVAL seq * 97 % 63072000 SECOND FROM seq_1_to_${per(1250)}`,
    `INSERT INTO order_lines SELECT seq DIV 8, seq % 8, CONCAT('SKU-', seq * 31 % 20011), 1 + seq % 9, seq % 30011 / 100 FROM seq_1_to_${per(5100)}`,
    `INSERT INTO documents SELECT CONCAT(LPAD(seq, 8, '0'), ${word('d', 28)}), CONCAT('Invoice ', seq), UNHEX(CONCAT(${Array.from({ length: 128 }, (_, n) => `SHA2(CONCAT(seq, ${n}), 256)`).join(', ')})) FROM seq_1_to_${per(77)}`,
    'ALTER TABLE orders ADD KEY (customer)',
    'ALTER TABLE order_lines ADD KEY (sku)',
    'ANALYZE TABLE orders, order_lines, documents',
  ]
  await runSql(facts, statements.join('; '), database)
  const found = await runSql(
    facts,
    `SELECT SUM(DATA_LENGTH + INDEX_LENGTH) FROM information_schema.TABLES WHERE TABLE_SCHEMA = '${database}'`,
  )
  return Number(found)
}

function backupSides(bench: Workbench, facts: MariadbFacts, database: string): Side[] {
  const store = join(bench.folder, 'store')
  const { host, port, user, password } = facts
  const source = { type: 'mariadb', host, port, user, password: { env: 'BENCH_PASSWORD' }, database }
  bench.configure({
    stores: { disk: { type: 'local', path: store } },
    encryption: { age: { recipients: [bench.recipient] } },
    jobs: { bench: { source, to: ['disk'] } },
  })
  const dump = `${facts.bin}/mariadb-dump --no-defaults --host=${host} --port=${port} --user=${user} --single-transaction --quick --routines --events --triggers --hex-blob --default-character-set=utf8mb4 ${database}`
  return [
    {
      name: cairnSide,
      async run() {
        rmSync(store, { recursive: true, force: true })
        const env = { BENCH_PASSWORD: password, CAIRN_MARIADB_CLIENTS: facts.bin }
        const measured = await bench.cairn(['backup', '--json', '--quiet'], env)
        return { measured, outBytes: storedBytes(measured.stdout) }
      },
    },
    {
      name: mariadbPeer,
      async run() {
        const file = join(bench.folder, 'peer')
        const stages = `zstd -q -1 -T0 | age -r ${bench.recipient} | dd bs=1M conv=fsync status=none of=${file}`
        try {
          const pipeline = `set -e; ${dump} | ${stages}; stat -c %s ${file}`
          const measured = await bench.run({ pipeline }, { MYSQL_PWD: password })
          return { measured, outBytes: Number(measured.stdout) }
        } finally {
          rmSync(file, { force: true })
        }
      },
    },
  ]
}
