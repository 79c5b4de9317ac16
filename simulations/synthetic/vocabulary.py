"""The shipped WordPiece vocabulary: a general list of English and radiology words, never a patient's note.

`python -m simulations.synthetic.vocabulary` writes `common/data/wordpiece.json` again, bit for bit.
"""

from __future__ import annotations

import string

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from common.data.tokenizer import VOCABULARY

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

ENGLISH = """
a about above absence absent abnormal abnormality abnormalities acute additional adequate adjacent admission admitted
after again age aged all almost along also although an and anterior antibiotics any apart apical apparent appear
appearance appearances appears are area areas around as aspect assess assessed assessment associated at background
base bases basal be because become been before being below better between bilateral bilaterally both but by can cannot
case cause caused center central change changed changes changing chronic clear clearly clinical close coarse common
compared comparison complete completely complicated concern concerning condition confirmed consider consistent contact
contain contour contours control could course crowded current currently daily date day days decrease decreased
definite degree demonstrate demonstrated demonstrates dense density deterioration developed development diagnosed
diagnosis did difference different difficult diffuse diffusely discharge disease distribution do does done dose down
due during each early either elderly elevated elevation elsewhere emergency end enlarged enlargement enough entire
equal especially evaluate evaluation evidence evident exam examination examined except exclude excluded extensive
extent extending failed faint fairly far features female few field fields figure film final findings fine first five
flat focal follow followed following for form former found four free frequent from full further general gradual great
greater grossly had half has have having he healthy heavy her here high higher his history home hospital hour hours
however identified if ill illness image images imaging impression improved improvement improving in including increase
increased increasing indicate indicated indistinct inferior initial initially inside insufficient intact interval into
irregular is isolated it its known large larger last late later lateral latter least left less level levels light like
likely limited limits little local located location long longer loss low lower made mainly male man managed many
marked markedly may mean mid middle mild mildly minimal minor minute moderate moderately month months more morning most
mostly much multifocal multiple my near nearly necessary negative new next night no non none nor normal normally not
note noted nothing notice now number obscured observed obvious occasional of old older on once one only onset or other
otherwise our out outside over overall own part partial partially particularly past patchy patient patients pattern
per performed perhaps period peripheral person persistent place placed plain point poor poorly portable position
positive possible possibly post posterior present presentation presented presenting presents pressure previous
previously prior probable probably process progress progressed progression progressive projected prominence prominent
proximal quality question questionable range rapid rapidly rate rather read recent recently recommended recovered
recovery reduced region regions related relatively remain remained remaining remains remote repeat report reported
resolution resolved resolving response rest result results review right round rounded same scattered second secondary
see seen segment segmental series serious several severe severely severity shape sharp she short should show showed
showing shown shows side sided sides sign significant significantly signs similar since single sitting site size
slight slightly small smaller smooth so some spared specific stable standing started state status still stopped
straightforward stronger strongly study subsequent subtle such suddenly sufficient suggest suggested suggesting
suggestive suggests superior supine support surgery surgical suspected suspicion symptom symptoms taken technique test
tested testing than that the their them then there therefore these they thick thickened thickening thin third this
those though three through throughout time tip to together too top total toward trace transferred treated treatment
two typical typically unchanged unclear under underlying unlikely until up upper upright urgent used usual usually
variable various very view views visible visualized visualised was week weeks well were when where whether which while
white whole wide widespread with within without woman work worse worsened worsening would year years yesterday yet
young zone zones
"""

RADIOLOGY = """
abdomen abdominal adenopathy adult aeration aerated air airspace airway alveolar alveoli angle angles anomaly ap apex
apices arch aorta aortic arrest artery arteries asthma asymmetric asymmetry atelectasis atrial atrium attenuation axial
azygos bacterial band bibasal bibasilar biopsy blood blunted blunting bone bones bony breast breath breathing
breathlessness bronchi bronchial bronchiectasis bronchitis bronchogram bronchograms bronchus bronchovascular bypass
calcification calcifications calcified calcium cancer cannula carcinoma cardiac cardiogenic cardiomediastinal
cardiomegaly cardiopulmonary cardiothoracic carina catheter cavitary cavitation cavity central cephalization
cephalisation chest chills clavicle clavicles collapse collapsed collection confluent congested congestion congestive
consolidated consolidation consolidations contrast copd coronary costophrenic cough covid covid-19 crazy creatinine crp
crt ct cuffing cyst cystic cystitis degenerative dehydration dependent device devices diabetes diabetic dialysis
diaphragm diaphragms diaphragmatic diarrhea diarrhoea dilatation dilated dobhoff dyspnea dyspnoea ecg edema oedema
effusion effusions ejection embolism emphysema emphysematous empyema endotracheal engorged engorgement enlarged
epigastric epithelial esophagus oesophagus exertion expiratory exudate failure fatigue febrile fever fevers fibrosis
fibrotic fissure fissures fluid fracture fractures fungal gallbladder gas gastric generator glass granuloma ground
ground-glass haemothorax haze haziness hazy headache heart hemidiaphragm hemidiaphragms hemithorax hernia hiatal hiatus
hila hilar hilum honeycombing humerus hypertension hypertensive hyperinflated hyperinflation hypoinflated hypoxemia
hypoxia hypoxic icd icu imaged implant implanted infarct infarction infection infectious infective infiltrate
infiltrates infiltration inflammation inflammatory influenza inhalation inspiration inspiratory insufficiency
intensive interlobar interlobular interstitial interstitium intubated intubation ischaemic ischemic joint jugular kerley
kidney kyphosis lead leads lesion lesions leukocytosis leukopenia ligament line linear lines lingula lingular liver lobar
lobe lobes lobectomy lordotic lucency lucent lumbar lung lungs lymph lymphadenopathy lymphopenia lymphocyte malaise
malignancy malignant marking markings mass masses mastectomy mechanical mediastinal mediastinum mesothelioma
metastases metastatic midline midzone miliary monitor monitoring mucus myalgia myocardial nasogastric nausea necrosis
neck neoplasm ng node nodes nodular nodule nodules nosocomial obliterated oblique obstruction obstructive og opacification
opacifications opacified opacities opacity organism orogastric osseous osteopenia overload oxygen oxygenation pa
pacemaker pacing paravertebral parenchyma parenchymal pcr peak peribronchial pericardial perihilar pleura pleural plate
pneumocystis pneumomediastinum pneumonia pneumonias pneumonic pneumonitis pneumothoraces pneumothorax polymerase
pregnancy procedure prosthesis prosthetic pulmonary radiograph radiographs radiography radiographic radiological
radiologist radiology radiolucent reaction redistribution reflux renal replacement resection residual respiratory
resonance resuscitation reticular reticulation reticulonodular retrocardiac rib ribs rotated rotation saline sars
saturation scan scar scarring sclerosis scoliosis sepsis septa septal septic severe shadow shadowing shadows sharply
shock shortness shoulder silhouette skeletal skin smoker smoking soft spine spinal splenic spo2 sputum sternal
sternotomy stent stomach subclavian subcutaneous subpleural subsegmental surgical swab tachycardia tachypnea tachypnoea
temperature thoracic thoracotomy thorax throat tissue tissues tomography tortuous trachea tracheal tracheostomy
tricuspid tube tubes tuberculosis tumor tumour ultrasound unremarkable valve valves varicella vascular vascularity
vasculature vein veins vena venous ventilated ventilation ventilator ventricle ventricular vertebra vertebrae vertebral
vessel vessels viral virus volume volumes vomiting wall weakness wedge wheeze wheezing wires x-ray
"""

PLACES = """
wuhan china italy italian contacts travel travelled traveled returned worker teacher farmer sailor cook nurse miner
baker gardener painter pianist carpenter driver fisherman retired office lives garden dog cat bees chess choir cycling
swimming fishing hiking pottery sailing knitting
"""


def words() -> list[str]:
    """All words, sorted, each once."""
    return sorted({w for block in (ENGLISH, RADIOLOGY, PLACES) for w in block.split() if w.isalpha()})


def build() -> tokenizers.Tokenizer:
    """The tokenizer: lower case, split at spaces and punctuation, `[CLS]` in front.

    Every printable character is a piece, alone and within a word, so that no English word is unknown.
    """
    characters = string.ascii_lowercase + string.digits + string.punctuation
    endings = ("ing", "ed", "er", "es", "ly", "al", "ic", "ous", "ion", "ions", "tion", "ity", "itis", "emia", "ation",
               "able", "ment", "ness", "ar", "ary", "in", "on", "an", "en", "st", "th", "re", "te", "ti", "ra", "ne")  # fmt: skip
    pieces = [*SPECIAL, *characters, *(f"##{c}" for c in characters), *(f"##{e}" for e in endings)]
    pieces += [word for word in words() if len(word) > 1]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    built = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=64))
    built.add_special_tokens(list(SPECIAL))
    built.normalizer = normalizers.BertNormalizer(lowercase=True)
    built.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    built.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", pair="[CLS] $A [SEP] $B", special_tokens=[(t, vocabulary[t]) for t in ("[CLS]", "[SEP]")]
    )
    built.decoder = decoders.WordPiece()
    return built


if __name__ == "__main__":
    VOCABULARY.write_text(build().to_str(pretty=True) + "\n", encoding="utf-8")
