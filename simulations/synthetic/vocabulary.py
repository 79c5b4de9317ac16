"""The builtin WordPiece vocabulary: characters, endings, words of radiology and of the clinic, of the made-up reports.

`python -m simulations.synthetic.vocabulary` writes it into `common/learning/data`.
"""

from __future__ import annotations

import re
import string
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from common.learning.data.tokenizer import VOCABULARY
from simulations.synthetic.clinical_words import CLINICAL_WORDS
from simulations.synthetic.reports import phrases

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CHARACTERS = string.ascii_lowercase + string.digits + string.punctuation + "°µ±²³×–—’“”•…"
ENDINGS = """
s es ed ing er ers est ly al ial ical ic ar ary ory ous ive able ible ion ions tion tions ation ations sion ment ness
ity ities ia ias is itis osis oses oma omas opathy ectomy ostomy otomy ogram ography oscopy plasty emia aemia uria
algia megaly ectasis thorax cardial cardium pulmonary vascular bronchial pleural lateral central basal hilar oid ism
ist ure ated ating ally ular ula um us on en an in or re th y ies ened ening ency ent ant ance ence
"""
WORDS = """
a about above across after again against all also although among an and any are around as at away be because become
been before behind being below beneath between both but by can cannot change changed changes compared could current
despite did do does done down due during each either else even ever evidence except few film finding findings first
for found from further given had has have he her here his how however if in into is it its itself just large larger
last least left less level like likely limited little long low lower made may might more most much must near neither
new next no non none nor not noted now of off on once one only onto or other otherwise our out over overall own part
patient per please possible possibly present prior probable probably rather recent recently right same second seen
several she shows should since small smaller so some still such suggest suggested suggesting suggests than that the
their them then there therefore these they third this those three through throughout to today together too toward
towards two under unless until up upon upper us use used using very view views was we well were what when where
whether which while who will with within without would year years yesterday yet absent abnormal abnormality
abnormalities acceptable active acute adequate adjacent advanced aged air airspace airway airways allowing alveolar
amount anterior anteroposterior aorta aortic ap apex apical apices appearance appearances appears approximately area
areas artefact artery arteries aspect aspiration assess assessed assessment asymmetric asymmetry atelectasis
atelectatic atrial atrium atypical axilla azygos background bandlike base bases basal basilar benign better bilateral
bilaterally blunted blunting body bone bones bony borderline borders bowel brachiocephalic breast breath bronchi
bronchial bronchiectasis bronchitis bronchogram bronchograms bronchus bulky bullae bypass calcification calcifications
calcified calcific cancer cannula cardiac cardiomediastinal cardiomegaly cardiophrenic cardiothoracic carina catheter
cava caval cavitary cavitation cavity central centrally cephalad cephalisation cephalization cervical chest chf
chronic clavicle clavicles clear cleared clinical clip clips coarse collapse collapsed comparison complete completely
component concerning concern conclusion confluent congested congestion congestive consistent consolidation
consolidations consolidative contour contours contralateral contrast copd coronary correlate correlation costophrenic
cough course covid crowding ct cuffing cyst cystic decrease decreased deformity degenerative degree demonstrates
demonstrated dense density densities device deviation devices diabetes diaphragm diaphragmatic diffuse diffusely
dilated dilatation disease dislocation displaced distal distended distension distribution dome dyspnea dyspnoea edema
effusion effusions elevated elevation emphysema emphysematous empyema endotracheal enlarged enlargement enteric erect
esophagus evaluate evaluation examination exam exclude excluded extending extends extensive extent failure faint fever
fibrosis fibrotic field fields fissure fissures flattened flattening fluid focal foci follow followup fracture
fractured fractures free frontal full gas gastric granuloma granulomas ground glass healed heart hemidiaphragm
hemidiaphragms hemithorax hernia hiatal hiatus hila hilar hilum history homogeneous humerus hydropneumothorax
hyperexpanded hyperinflated hyperinflation hypertension hypoxia hypoxic icu image images imaging implant impression
improved improvement improving inadequate incidental increase increased increasing indication indistinct infection
infectious infective inferior infiltrate infiltrates infiltration inflammation inflammatory infrahilar inspiration
inspiratory interstitial interstitium interval intact intra intubated intubation jugular kerley kyphosis lateral
laterally layering lead leads lesion lesions limits line linear lines lingula lobar lobe lobes lobectomy lobulated
lordotic lucency lucent lung lungs lymph lymphadenopathy malignancy malignant marked markedly marking markings mass
masses medial mediastinal mediastinum metastases metastatic mid midline middle mild mildly minimal minimally minor
mitral moderate moderately motion multifocal multiple nasogastric neck negative ng nipple nodal node nodes nodular
nodule nodules normal normally obese obscured obscures obscuring obstruction obstructive oedema old opacification
opacified opacities opacity osseous osteopenia osteoporosis pa pacemaker pacer pain parenchyma parenchymal partial
partially patchy patent pedicle percutaneous peribronchial pericardial pericardium perihilar peripheral peripherally
periphery persistent picc plate plain pleura pleural pneumonectomy pneumonia pneumonic pneumoperitoneum pneumothoraces
pneumothorax poor poorly port portable position positioned post posterior posteroanterior postoperative predominantly
previous previously process projection projects prominence prominent prosthetic pulmonary radiograph radiographic
radiographs radiology radiopaque recommend recommended redemonstrated redistribution reduced reflect region regions
related remain remains removal removed resolution resolved resolving respiratory reticular reticulonodular
retrocardiac rib ribs rotated rotation sarcoid scar scarring scattered scoliosis screw segment segmental sepsis septa
septal severe severely shadow shadowing shadows sharp sharply shift shortness shoulder side sided sides sign
significant significantly signs silhouette similar simple size sized skin slight slightly soft space spaces spine
spinal stable stent sternal sternotomy sternum stomach study subclavian subcutaneous subdiaphragmatic subpleural
subpulmonic subsegmental subtle suboptimal superimposed superior supine support surgery surgical suspicion suspicious
symmetric symmetrical symptoms syndrome technique tension thickened thickening thin thoracic thoracotomy thorax tip
tissue tissues tortuous trace trachea tracheal tracheostomy transplant trauma treated treatment tube tuberculosis
tubes tumor tumour ultrasound unchanged unfolded unilateral unremarkable upright valve valves vascular vascularity
vasculature vein veins vena venous ventilation ventricle ventricular vertebra vertebrae vertebral vessel vessels viral
visible visualised visualized volume volumes wall weakness wedge wet wheeze widened widening width wire wires worse
worsened worsening xray zone zones male female man woman day days week weeks month months hospital ward emergency
admission admitted discharge doctor blood pressure oxygen saturation drain drained injury fall loss weight swelling
swollen ankle ankles legs liver kidney renal hepatic spleen splenic abdomen abdominal pelvis stroke smoker smoking mm
cm ml positive test pcr fine bat wing
"""


def build() -> tokenizers.Tokenizer:
    """The vocabulary as a tokenizer: lower case, `[CLS]` first and `[SEP]` last, `[PAD]` is 0."""
    words = sorted({word for text in (WORDS, CLINICAL_WORDS, *phrases()) for word in _words(text)} - set(CHARACTERS))
    # Each character is a piece, also within a word: a word that is not listed is spelt, and does not become `[UNK]`.
    pieces = [*SPECIAL, *CHARACTERS, *(f"##{c}" for c in CHARACTERS), *(f"##{end}" for end in ENDINGS.split()), *words]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 (no password)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    )
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(SPECIAL))

    return tokenizer


def write_vocabulary(path: Path) -> None:
    """Write the vocabulary in the format of the `tokenizers` library, the same bytes each time."""
    path.write_text(build().to_str(pretty=True) + "\n", encoding="utf-8")


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


if __name__ == "__main__":
    write_vocabulary(VOCABULARY)
