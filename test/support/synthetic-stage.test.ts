import { stageContract } from './stage-contract.ts'
import { syntheticStage } from './synthetic-stage.ts'

const open = () => ({
  writing: [syntheticStage(0x5a)],
  wrongKey: [syntheticStage(0x5b)],
  key: String(0x5a),
})

stageContract('the synthetic stage', open, { encrypts: true })
