import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { parseAllDocuments } from 'yaml'
import { goPrograms } from './services/index.ts'
import { machine } from './support/cli.ts'

const folder = join(import.meta.dirname, '../images/kubernetes')
const files = readdirSync(folder).filter(name => name.endsWith('.yaml'))

/** What the tests look at in a CronJob. */
interface CronJob {
  readonly spec: {
    readonly concurrencyPolicy: string
    readonly jobTemplate: { readonly spec: { readonly template: { readonly spec: Pod } } }
  }
}

interface Pod {
  readonly securityContext: { readonly runAsUser: number; readonly runAsNonRoot: boolean }
  readonly containers: readonly {
    readonly args?: readonly string[]
    readonly env: readonly {
      readonly name: string
      readonly value?: string
      readonly valueFrom?: { readonly secretKeyRef: { readonly key: string } }
    }[]
    readonly resources: object
    readonly securityContext: { readonly readOnlyRootFilesystem: boolean }
  }[]
}

function documentsOf(file: string): [secret: { stringData: Record<string, string> }, job: CronJob] {
  const documents = parseAllDocuments(readFileSync(join(folder, file), 'utf8'))
  return documents.map(document => document.toJS()) as [{ stringData: Record<string, string> }, CronJob]
}

test('there is an example for each kind of store that the old image named', () => {
  assert.deepEqual(files.sort(), ['azure.yaml', 'minio.yaml', 's3.yaml', 'sftp.yaml'])
})

for (const file of files) {
  test(`${file} is what the API of Kubernetes knows`, t => {
    const program = join(goPrograms, 'check-kubernetes')
    if (!existsSync(program)) return t.skip('there is no Go here to build the check with')
    const found = execFileSync(program, { input: readFileSync(join(folder, file)), encoding: 'utf8' })
    assert.equal(found, 'Secret cairn\nCronJob cairn\n')
    const wrong = readFileSync(join(folder, file), 'utf8').replace('concurrencyPolicy', 'concurencyPolicy')
    assert.throws(
      () => execFileSync(program, { input: wrong, stdio: ['pipe', 'pipe', 'pipe'] }),
      /unknown field/,
    )
  })

  test(`${file} runs as nobody's root, alone, and its environment is one that Cairn works with`, async () => {
    const [secret, job] = documentsOf(file)
    const pod = job.spec.jobTemplate.spec.template.spec
    const [container] = pod.containers
    assert.ok(container)
    assert.equal(job.spec.concurrencyPolicy, 'Forbid')
    assert.deepEqual([pod.securityContext.runAsUser, pod.securityContext.runAsNonRoot], [1001, true])
    assert.equal(container.securityContext.readOnlyRootFilesystem, true)
    assert.deepEqual(Object.keys(container.resources), ['requests', 'limits'])
    const env = container.env.map(({ name, value, valueFrom }) => [
      name,
      value ?? secret.stringData[valueFrom?.secretKeyRef.key ?? ''],
    ])
    assert.ok(
      env.every(([, value]) => value !== undefined),
      'a key that the secret has not',
    )
    const host = machine()
    const shown = await host.ok(['config', 'from-env', '--json'], { env: Object.fromEntries(env) })
    assert.equal(shown.stderr, '')
    assert.equal(shown.json<{ jobs: { rclone: object } }>().jobs.rclone !== undefined, true)
  })
}
